"""What a stranger may see: a secret that is planted everywhere is found nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.exposure import expose
from cqrs_ddd_health.settings import Detail
from cqrs_ddd_health.texts import scrub
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import Told
from tests.core.asgi_client import request

CANARY = "c4n4ry"
PATHS = ["", "/live", "/ready", "/startup", "/report", "/report/raises", "/report/w", "/page"]


def registry_of(detail: Detail) -> HealthRegistry:
    """Return a registry with the canary wherever a secret may get by accident."""
    settings = HealthSettings(
        detail=detail,
        service_name="orders",
        service_version=f"1.0-{CANARY}",
        instance=f"host-{CANARY}",
    )
    registry = HealthRegistry(settings=settings)
    url = f"redis://:{CANARY}@host/"
    details = {CANARY: CANARY, "url": url, "deep": {"list": [CANARY, url, 1]}}
    registry.register("up", Told(CheckResult(details=details)))
    registry.register(
        "reports", Told(CheckResult(state="down", message=f"because {CANARY}", details=details))
    )
    registry.register("raises", Told(OSError(f"postgresql://app:{CANARY}@db:5432/orders")))
    registry.heartbeat("w", instance=f"pod-{CANARY}", phase=f"phase {CANARY}", progress=7)
    registry.heartbeat("w")
    return registry


@pytest.mark.parametrize("detail", ["minimal", "safe"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_byte_of_a_secret_is_on_the_wire(detail: Detail, path: str) -> None:
    answer = await request(health_app(registry_of(detail)), f"/health{path}")
    assert CANARY not in answer.text
    assert CANARY not in str(answer.headers)
    assert answer.code == 404 or answer.body


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
    assert expose(shown, "safe") == shown


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
