"""Texts that are fit to be shown: one line, of bounded length, and without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.domain import redaction as texts
from cqrs_ddd_health.domain.redaction import hide, safe_name, safe_text, secrets_of_url
from tests.core.actors import row_of


@pytest.fixture(autouse=True)
def nothing_is_hidden_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_hidden", texts._Hidden())


@given(st.text(), st.integers(1, 50))
def test_safe_text_is_one_line_of_bounded_length(text: str, limit: int) -> None:
    safe = safe_text(text, limit)
    assert len(safe) <= limit
    assert len(safe.splitlines()) <= 1
    assert safe.encode().decode() == safe


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=50))
def test_safe_text_keeps_what_is_safe(text: str) -> None:
    assert safe_text(text, 50) == text


def test_the_cut_of_a_text_shows() -> None:
    assert safe_text("abcdef", 5) == "abcd…"


def test_a_url_that_never_ends_shows_nothing_of_its_authority() -> None:
    assert safe_text("at redis://" + "s3cret" * 10_000 + "@host") == "at redis://***…"


# --- what was given to hide


def test_a_secret_that_is_cut_in_two_is_not_shown_in_part() -> None:
    secret = "a-long-secret-at-the-edge"
    hide([secret])
    for length in range(3_970, 4_010):
        text = safe_text(f"{'x' * length}{secret}{'y' * 100}", 10_000)
        assert "a-long" not in text


STRONG = "s3cret-s3cret"
WORDLIKE = ("postgres", "Connection", "a1", "1", "correcthorsebatterystaple")


@pytest.mark.parametrize("secret", WORDLIKE)
def test_a_secret_that_is_a_word_is_cut_out_where_it_stands_alone(secret: str) -> None:
    hide([secret])
    text = f"{secret}: no {secret!r} at x://{secret}, db_{secret}_2"
    assert safe_text(text) == "***: no '***' at x://***, db_***_2"
    inside = f"x{secret}x {secret}ql, the {secret}Refused"
    assert safe_text(inside) == inside


@pytest.mark.parametrize("secret", ["#secret#", "p@ss w0rd", STRONG])
def test_any_other_secret_is_cut_out_wherever_it_stands(secret: str) -> None:
    hide([secret])
    assert safe_text(f"x{secret}x {secret}") == "x***x ***"


def test_a_secret_is_never_read_off_a_name() -> None:
    hide([*WORDLIKE, STRONG])
    for name in ("ConnectionRefusedError", "Connection", "postgres", "1", "a1"):
        assert safe_name(name) == name
    assert safe_name(f"Own{STRONG}Error") == "Own***Error"


async def test_a_class_and_a_key_keep_their_names_whatever_the_password() -> None:
    settings = {"checks": {"db": {"url": "tcp://user:Connection@127.0.0.1:1"}}}
    registry = HealthRegistry(settings=HealthSettings.model_validate(settings))

    def check() -> bool:
        raise ConnectionRefusedError("Connection refused")

    registry.register("db", check)
    failure = row_of(await registry.report(), "db").failure
    assert failure is not None
    assert (failure.exception_type, failure.message) == ("ConnectionRefusedError", "*** refused")


@pytest.mark.parametrize(
    "secret", ["p@ss/w0rd", 'it\'s a "s3cret"', "caf\xe9 + cr\xe8me", "a\\b#c%d&"]
)
def test_a_secret_is_cut_out_however_it_is_written(secret: str) -> None:
    hide([quote(secret, safe="")])
    for written in (
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote(secret, safe=" +"),
        quote_plus(secret),
    ):
        assert safe_text(f"login with <{written}> failed") == "login with <***> failed"


def test_of_two_secrets_one_may_be_a_part_of_the_other() -> None:
    hide(["secret-one"])
    hide(["secret-one-and-more", "one"])
    assert safe_text("secret-one-and-more secret-one one") == "*** *** ***"


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("redis://user:pa55@host:1/0", {"pa55"}),
        ("redis://user@host", set[str]()),
        ("postgresql+asyncpg://postgres@host/db?application_name=checkout", set[str]()),
        ("postgresql://host/db?password=pa55&sslmode=verify-full", {"pa55"}),
        ("nats://t0k@host", {"t0k"}),
        ("https://key@host/", {"key"}),
        ("https://host/a@b?page=2&expect=200-299", set[str]()),
        ("https://host/?t=abcdefgh&api_key=abc&x=y", {"abcdefgh", "abc"}),
        ("https://host/?abcdefghi", {"abcdefghi"}),
        ("memory://?min_available=200000000", set[str]()),
        ("amqp://user:p/a#s@s@host/", {"p/a#s@s"}),
        ("disk:///a@b", set[str]()),
        ("module:package:attribute", set[str]()),
        ("hunter2", set[str]()),
        ("", set[str]()),
    ],
)
def test_what_is_secret_in_a_url(url: str, secrets: set[str]) -> None:
    def found() -> Iterator[str]:
        return (secret for secret in secrets_of_url(url) if secret)

    assert set(found()) == secrets


def test_the_settings_hide_what_is_secret_in_their_urls() -> None:
    settings = {"checks": {"own": {"url": "tcp://user:sw0rdfish@host:5"}}}
    HealthSettings.model_validate(settings)
    assert safe_text("sw0rdfish") == "***"
