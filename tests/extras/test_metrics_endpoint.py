"""`/metrics` over HTTP: for whom, in which format, and what it asks of the checks."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import urllib.request
from typing import get_args

import pytest
from prometheus_client import exposition
from prometheus_client.parser import text_string_to_metric_families

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthServer, HealthSettings
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.testing import FakeCheck
from cqrs_ddd_health.web import responses as formats
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import eventually, log_is_written
from tests.core.asgi_client import Response, request

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def registry_with(**settings: object) -> HealthRegistry:
    return HealthRegistry(settings=HealthSettings.model_validate(settings))


def value(response: Response, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            if sample.name == f"cqrs_health_{name}" and sample.labels == labels:
                return sample.value
    return None


# --- who sees it


@pytest.mark.parametrize("detail", get_args(Detail))
async def test_it_is_there_at_every_level_but_the_least(detail: Detail) -> None:
    registry = registry_with(detail=detail, bearer_token="0123456789abcdef")
    registry.register("database", FakeCheck())
    response = await request(health_app(registry), "/metrics")
    if detail == "minimal":
        assert (response.code, response.json) == (404, {"error": "not found"})
        return
    assert response.code == 200
    assert value(response, "component_up", component="database") == 1


@pytest.mark.parametrize("detail", ["safe", "full", "authorized"])
@pytest.mark.parametrize("accept", [PLAIN, OPENMETRICS])
async def test_nothing_of_a_secret_is_in_it(detail: Detail, accept: str) -> None:
    canary = "c4n4ry"
    registry = registry_with(
        detail=detail,
        bearer_token=f"{canary}0123456789",
        instance=f"host-{canary}",
        service_name=canary,
        service_version=canary,
        checks={"database": {"url": f"redis://:{canary}@localhost/0"}},
    )
    registry.register("database", FakeCheck(OSError(f"redis://:{canary}@localhost/0")))
    said = CheckResult(state="degraded", message=canary, details={canary: canary})
    registry.register("search", FakeCheck(said))
    registry.heartbeat("outbox", instance=f"pod-{canary}", phase=canary)
    response = await request(health_app(registry), "/metrics", headers={"accept": accept})
    assert response.code == 200
    assert canary not in response.text + str(response.headers)


async def test_nobody_is_asked_who_it_is() -> None:
    def authorizer(scope: object) -> bool:
        raise AssertionError

    registry = registry_with(detail="authorized")
    assert (await request(health_app(registry, authorizer=authorizer), "/metrics")).code == 200


# --- where it is


@pytest.mark.parametrize(
    ("prefix", "root_path", "path"),
    [
        ("/health", None, "/metrics"),
        ("", None, "/metrics"),
        ("/health", "/sub", "/sub/metrics"),
        ("/metrics/health", None, "/metrics"),
    ],
)
async def test_it_is_beside_the_prefix(prefix: str, root_path: str | None, path: str) -> None:
    app = health_app(registry_with(), prefix=prefix)
    response = await request(app, path, root_path=root_path)
    assert "cqrs_health_status" in response.text


async def test_a_prefix_of_that_name_is_the_health_paths() -> None:
    app = health_app(registry_with(), prefix="/metrics")
    assert (await request(app, "/metrics")).json["status"] == "healthy"
    assert (await request(app, "/metrics", query="a=b")).json["status"] == "healthy"
    assert (await request(app, "/metrics/live")).json == {"status": "alive"}


async def test_other_methods_are_refused_and_head_has_no_body() -> None:
    app = health_app(registry_with())
    for method in ("POST", "DELETE", "TRACE"):
        response = await request(app, "/metrics", method)
        assert (response.code, response.headers["allow"]) == (405, "GET, HEAD")
    head = await request(app, "/metrics", "HEAD")
    assert (head.code, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 0


def test_a_health_server_has_it_too() -> None:
    registry = registry_with()
    registry.register("database", lambda: False)
    with HealthServer(registry, port=0) as server:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{server.url}/metrics", timeout=20) as response:
            assert response.headers["content-type"] == PLAIN
            assert b'cqrs_health_component_up{component="database"} 0.0' in response.read()


# --- formats


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("text/plain", PLAIN),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0.1, text/plain", PLAIN),
        ("application/openmetrics-text; version=9.9.9; escaping=\x01", OPENMETRICS),
        ("," * 100_000, PLAIN),
    ],
)
async def test_the_format_is_that_which_is_asked_for(accept: str, content_type: str) -> None:
    app = health_app(registry_with())
    response = await request(app, "/metrics", headers={"accept": accept} if accept else None)
    assert (response.code, response.headers["content-type"]) == (200, content_type)
    assert response.text.endswith("# EOF\n") == (content_type == OPENMETRICS)
    assert response.headers["cache-control"] == "no-store"
    assert "Accept" in response.headers["vary"]


@pytest.mark.parametrize("media_type", [formats.PLAIN, formats.OPENMETRICS])
def test_the_library_calls_the_formats_so_too(media_type: bytes) -> None:
    _, content_type = exposition.choose_encoder(media_type.decode())
    assert content_type == {formats.PLAIN: PLAIN, formats.OPENMETRICS: OPENMETRICS}[media_type]


# --- what it asks


async def test_under_refresh_no_scrape_starts_a_check() -> None:
    registry = registry_with(http_max_age_seconds=0)
    options = CheckOptions(initial_delay_seconds=0, interval_seconds=3_600)
    check = registry.register("database", FakeCheck(), options=options)
    app = health_app(registry)
    async with registry.running():
        await eventually(lambda: check.calls == 1)
        for _ in range(5):
            assert value(await request(app, "/metrics"), "status") == 0
    assert check.calls == 1


async def test_a_flood_of_scrapes_is_one_flight() -> None:
    registry = registry_with(http_max_age_seconds=60)
    check = registry.register("database", FakeCheck())
    app = health_app(registry)
    await asyncio.gather(*(request(app, "/metrics", query=f"x={n}") for n in range(100)))
    await request(app, "/metrics", headers={"accept": OPENMETRICS})
    assert check.calls == 1


async def test_a_database_that_is_down_at_the_start_is_told() -> None:
    release = threading.Event()
    registry = registry_with(http_deadline_seconds=0.05, http_max_age_seconds=0)
    registry.register("refuses", FakeCheck(ConnectionRefusedError()))
    registry.register("hangs", release.wait, timeout_seconds=0.2)
    app = health_app(registry)
    response = await request(app, "/metrics")
    assert response.code == 200
    assert [value(response, "component_up", component=name) for name in ("refuses", "hangs")] == [
        0,
        0,
    ]
    assert value(response, "status") == 2
    await eventually(lambda: registry.hung_checks == 1)
    response = await request(app, "/metrics")
    assert value(response, "hung_checks") == 1
    assert value(response, "check_failures_total", component="hangs", kind="timeout") == 1
    release.set()


# --- without prometheus_client


async def test_without_the_library_it_is_not_there_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "cqrs_ddd_health.web.collector", raising=False)
    registry = registry_with()
    check = registry.register("database", FakeCheck())
    app = health_app(registry)
    with caplog.at_level(logging.WARNING, "cqrs_ddd_health"):
        codes = [(await request(app, path)).code for path in ("/metrics", "/metrics", "/health")]
        log_is_written()
    assert codes == [404, 404, 200]
    assert check.calls == 1
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("/metrics is not found: metrics need prometheus_client: pip install")
