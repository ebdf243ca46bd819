"""`CQRS_HEALTH_BEARER_TOKEN`: strong enough, fit for a header, and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cqrs_ddd_health import HealthSettings, SettingsError
from cqrs_ddd_health.domain.redaction import safe_text

VARIABLE = "CQRS_HEALTH_BEARER_TOKEN"
GOOD = "g00d-t0ken.of_many~characters+/=="


def said(monkeypatch: pytest.MonkeyPatch, token: str) -> HealthSettings:
    monkeypatch.setenv(VARIABLE, token)
    return HealthSettings.from_environment()


@pytest.mark.parametrize("token", [GOOD, "0123456789abcdef", "a" * 16, "x" * 4_096])
def test_a_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    settings = said(monkeypatch, token)
    assert settings.bearer_token is not None
    assert settings.bearer_token.get_secret_value() == token


def test_there_is_none_by_default() -> None:
    assert HealthSettings().bearer_token is None


def test_or_from_a_secret_file_with_a_line_break(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / VARIABLE).write_text(f"{GOOD}\n")
    monkeypatch.setenv("CQRS_HEALTH_SECRETS_DIR", str(tmp_path))
    settings = HealthSettings.from_environment()
    assert settings.bearer_token is not None
    assert settings.bearer_token.get_secret_value() == GOOD


@pytest.mark.parametrize(
    "token",
    [
        "",
        "short",
        "a" * 15,
        "with a blank in it",
        "ümlaut-of-many-letters",
        "quote\"quote'quote0",
        "=" * 20,
        "equals=in=the=middle0",
        "new\nline0123456789",
        "0123456789abcdef\n",
        "a,b,c,d,e,f,g,h,i",
    ],
)
def test_what_could_be_guessed_or_not_be_sent_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    with pytest.raises(SettingsError, match=f"{VARIABLE}: .*at least 16 characters") as caught:
        said(monkeypatch, token)
    assert not token or token not in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        HealthSettings.model_validate({"bearer_token": token})
    assert not token or token not in str(refused.value)


def test_it_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = said(monkeypatch, GOOD)
    assert GOOD not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert safe_text(f"sent Authorization: Bearer {GOOD}, got 401") == (
        "sent Authorization: Bearer ***, got 401"
    )
