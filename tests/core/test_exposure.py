"""What a stranger may see: a secret that is planted everywhere is found nowhere."""

from __future__ import annotations

import http.client
import importlib.util
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthServer, HealthSettings
from cqrs_ddd_health.cli.explain import explained
from cqrs_ddd_health.cli.table import table
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.domain.redaction import scrub
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.exposure import expose, expose_component
from tests.core.actors import Told
from tests.core.asgi_client import Application, request

CANARY = "c4n4ry"
KNOWN = "kn0wn-c4nary+0123456789"
LEVELS: tuple[Detail, ...] = ("minimal", "safe", "full", "authorized")
BELOW = [
    *("", "/live", "/ready", "/startup", "/report", "/report?tag=t", "/page", "/page?tag=t"),
    *("/report/up", "/report/reports", "/report/raises", "/report/w", "/report/known", "/nothing"),
]
PATHS = [*(f"/health{below}" for below in BELOW), "/metrics"]
ACCEPTS = ["*/*", "application/health+json", "application/openmetrics-text"]
HAS_METRICS = importlib.util.find_spec("prometheus_client") is not None


def registry_of(detail: Detail) -> HealthRegistry:
    """Return a registry with the canary wherever a secret may get by accident.

    The known one is in the settings too, so that it must be shown nowhere and to nobody.
    """
    settings = HealthSettings.model_validate(
        {
            "detail": detail,
            "bearer_token": KNOWN,
            "checks": {"known": {"url": f"redis://:{KNOWN}@host/"}},
            "service_name": "orders",
            "service_version": f"1.0-{CANARY}",
            "instance": f"host-{CANARY}",
            "http_max_age_seconds": 0,
        }
    )
    registry = HealthRegistry(settings=settings)
    url = f"redis://:{CANARY}@host/"
    details = {CANARY: CANARY, "url": url, "deep": {"list": [CANARY, url, 1]}}
    registry.register("up", Told(CheckResult(details=details)), tags=["t"])
    registry.register(
        "reports", Told(CheckResult(state="down", message=f"because {CANARY}", details=details))
    )
    registry.register("raises", Told(OSError(f"postgresql://app:{CANARY}@db:5432/orders")))
    registry.heartbeat("w", instance=f"pod-{CANARY}", phase=f"phase {CANARY}", progress=7)
    registry.heartbeat("w")
    known_error = type(f"Error_{KNOWN}", (OSError,), {})
    registry.register("known", Told(known_error(f"Bearer {KNOWN}, {KNOWN!r}, {quote(KNOWN)}")))
    known_details = {KNOWN: KNOWN, "deep": [{"key": f"x{KNOWN}y"}]}
    registry.register(
        "knows", Told(CheckResult(state="degraded", message=KNOWN, details=known_details))
    )
    return registry


async def everything_of(app: Application, **headers: str) -> str:
    """Return all that is sent for every path, in every format."""
    said = ""
    for path, accept, method in product(PATHS, ACCEPTS, ("GET", "HEAD", "POST")):
        plain, _, query = path.partition("?")
        answer = await request(
            app, plain, method, query=query, headers={"accept": accept, **headers}
        )
        said += f"{answer.code} {answer.headers} {answer.text}"
    return said


@pytest.mark.parametrize("detail", ["minimal", "safe", "authorized"])
async def test_no_byte_of_a_secret_is_on_the_wire(detail: Detail) -> None:
    said = await everything_of(health_app(registry_of(detail)), authorization="Bearer wrong")
    assert CANARY not in said
    assert "200" in said
    assert ("cqrs_health_component_up" in said) == (HAS_METRICS and detail != "minimal")


async def test_full_and_whoever_is_let_in_see_the_same_words() -> None:
    full = await everything_of(health_app(registry_of("full")))
    let_in = await everything_of(
        health_app(registry_of("authorized")), authorization=f"Bearer {KNOWN}"
    )
    assert full.count(CANARY) == let_in.count(CANARY) > 10


@pytest.mark.parametrize("detail", LEVELS)
async def test_a_secret_that_is_known_is_shown_to_nobody(
    detail: Detail, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(detail)
    with caplog.at_level("DEBUG"):
        report = await registry.report()
        said = {
            "strangers": await everything_of(health_app(registry)),
            "the authorised": await everything_of(
                health_app(registry), authorization=f"Bearer {KNOWN}"
            ),
            "the registry": f"{report!r} {report.model_dump_json()} {await registry.status()}",
            "the terminal": table(report),
            "explanations": explained({name: registry.origins(name) for name in registry.names}),
            "the settings": f"{registry.settings!r} {registry.settings.model_dump_json()}",
            "the log": caplog.text,
        }
    assert [who for who, text in said.items() if KNOWN in text or quote(KNOWN) in text] == []
    assert "Error_***" in said["the log"]


@pytest.mark.parametrize("detail", LEVELS)
def test_nor_does_the_server_of_a_worker_say_it(detail: Detail) -> None:
    said = ""
    with HealthServer(registry_of(detail), port=0) as server:
        for path, accept in product(PATHS, ACCEPTS):
            answered = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            headers = {"Accept": accept, "Authorization": f"Bearer {KNOWN}x"}
            answered.request("GET", path, headers=headers)
            answer = answered.getresponse()
            said += f"{answer.status} {answer.getheaders()} {answer.read().decode()}"
            answered.close()
    assert KNOWN not in said
    assert (CANARY in said) == (detail == "full")


async def test_safe_still_says_what_broke_and_since_when() -> None:
    report = expose(await registry_of("safe").report(), "safe")
    row = report.component("raises")
    assert row is not None
    assert row.failure is not None
    assert (row.state, row.failure.kind, row.failure.exception_type) == (
        "down",
        "exception",
        "OSError",
    )
    assert row.latency_seconds is not None
    assert report.service.name == "orders"
    assert {record.age_seconds is None for record in report.heartbeats} == {False}
    assert {record.progress for record in report.heartbeats} == {None}


async def test_full_shows_words_details_and_instances_but_no_userinfo() -> None:
    report = expose(await registry_of("full").report(), "full")
    raises, reports, up = (report.component(name) for name in ("raises", "reports", "up"))
    assert raises is not None
    assert raises.failure is not None
    assert raises.failure.message == "postgresql://***@db:5432/orders"
    assert reports is not None
    assert reports.failure is not None
    assert reports.failure.message == f"because {CANARY}"
    assert up is not None
    assert up.details["url"] == "redis://***@host/"
    assert up.details["deep"] == {"list": (CANARY, "redis://***@host/", 1)}
    assert report.service.version == f"1.0-{CANARY}"
    assert f"pod-{CANARY}" in {record.instance for record in report.heartbeats}


async def test_exposing_changes_nothing_but_what_is_left_out() -> None:
    report = await registry_of("full").report()
    shown = expose(report, "safe")
    assert type(report).model_validate_json(shown.model_dump_json()) == shown
    assert [row.state for row in shown.components] == [row.state for row in report.components]
    assert (
        expose(shown, "safe") == shown == expose(report, "authorized") == expose(report, "minimal")
    )
    assert shown.components == tuple(expose_component(row, "safe") for row in report.components)
    assert expose(report, "full") == report


@pytest.mark.parametrize("detail", ["minimal", "safe", "full"])
async def test_a_failure_without_words_stays_without(detail: Detail) -> None:
    registry = HealthRegistry()
    registry.register("check", Told(OSError()))
    row = expose(await registry.report(), detail).component("check")
    assert row is not None
    assert row.failure is not None
    assert row.failure.message is None


@pytest.mark.parametrize(
    "password",
    ["plain", "p@ss", "p#ss", "p/ss", "100%", "a:b", "@@", "p?ss&q=1", "/@#/%@", "p'\"ss"],
)
@pytest.mark.parametrize(
    "text",
    [
        "redis://user:{}@cache:6379/0",
        "cannot connect to postgresql+asyncpg://user:{}@db/orders: refused",
        "amqp://:{}@host, then again",
        "('mysql://user:{}@db/x',)",
    ],
)
def test_the_userinfo_of_a_url_is_cut_out(text: str, password: str) -> None:
    shown = scrub(text.format(f"s3cret{password}s3cret"))
    assert "s3cret" not in shown
    assert "user" not in shown
    assert "://***@" in shown


@pytest.mark.parametrize(
    "text", ["", "no url", "http://host/path", "mail to ops@example.org", "a://b c@d"]
)
def test_what_has_no_userinfo_is_left_alone(text: str) -> None:
    assert scrub(text) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1))
def test_no_password_survives(password: str) -> None:
    marked = f"<{password}>"
    assert marked not in scrub(f"x https://user:{marked}@host/ y").replace("***", "")
