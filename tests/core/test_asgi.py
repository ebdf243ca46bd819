"""The report over ASGI: every path, code and header."""

from __future__ import annotations

from typing import cast

import pytest

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthReport, HealthSettings
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.domain.models import ComponentState
from cqrs_ddd_health.web.asgi import HealthApp, health_app
from tests.core.actors import Told
from tests.core.asgi_client import Response, converse, request

PATHS = ["", "/live", "/ready", "/startup", "/report", "/report/database", "/page"]


def registry_of(
    state: ComponentState = "up",
    *,
    critical: bool = True,
    detail: Detail = "safe",
    required: tuple[str, ...] = (),
) -> HealthRegistry:
    """Return a registry whose one check is in that state, and whose answers are never kept."""
    settings = HealthSettings(detail=detail, required=required, http_max_age_seconds=0)
    registry = HealthRegistry(settings=settings)
    registry.register("database", Told(CheckResult(state=state)), critical=critical)
    return registry


def app_of(
    state: ComponentState = "up", *, critical: bool = True, detail: Detail = "safe"
) -> HealthApp:
    return health_app(registry_of(state, critical=critical, detail=detail))


async def get(app: HealthApp, path: str) -> Response:
    return await request(app, f"/health{path}")


# --- codes and bodies


@pytest.mark.parametrize(
    ("critical", "state", "expected"),
    [  # health, live, ready, startup, report, its row, page
        (True, "up", [200, 200, 200, 200, 200, 200, 200]),
        (True, "degraded", [200, 200, 200, 200, 200, 200, 200]),
        (True, "down", [503, 200, 503, 200, 503, 503, 200]),
        (False, "up", [200, 200, 200, 200, 200, 200, 200]),
        (False, "degraded", [200, 200, 200, 200, 200, 200, 200]),
        (False, "down", [503, 200, 200, 200, 200, 503, 200]),
    ],
)
async def test_what_a_component_is_decides_the_codes(
    critical: bool, state: ComponentState, expected: list[int]
) -> None:
    app = app_of(state, critical=critical)
    assert [(await get(app, path)).code for path in PATHS] == expected


async def test_health_is_the_contracts_status() -> None:
    body = (await get(app_of("down"), "")).json
    assert (body["status"], body["components"]) == ("unhealthy", {"database": "down"})
    assert body["heartbeats"] == {}
    assert str(body["timestamp"]).endswith("+00:00")


async def test_live_is_the_contracts_answer() -> None:
    assert (await get(app_of("down"), "/live")).json == {"status": "alive"}


async def test_only_a_check_that_gates_live_can_say_that_it_is_dead() -> None:
    registry = registry_of()
    registry.register("deadlock", Told(False), probes=("live",))
    answer = await get(health_app(registry), "/live")
    assert (answer.code, answer.json) == (503, {"status": "dead"})
    assert (await get(health_app(registry), "/ready")).code == 200


async def test_ready_lists_what_gates_it_and_nothing_else() -> None:
    registry = registry_of()
    registry.register("optional", Told(False), critical=False)
    registry.register("live only", Told(False), probes=("live",))
    registry.heartbeat("worker")
    answer = await get(health_app(registry), "/ready")
    assert (answer.code, answer.json) == (
        200,
        {"ready": True, "components": {"database": "up", "worker": "up"}},
    )


async def test_ready_is_no_while_something_required_is_missing() -> None:
    registry = registry_of(required=("database", "relay"))
    app = health_app(registry)
    answer = await get(app, "/ready")
    assert (answer.code, answer.json["components"]) == (503, {"database": "up", "relay": "down"})
    registry.heartbeat("relay")
    assert (await get(app, "/ready")).code == 200


async def test_draining_is_seen_at_once_and_live_says_yes_to_the_end() -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=60))
    app = health_app(registry)
    assert [(await get(app, path)).code for path in ("/ready", "/live")] == [200, 200]
    registry.drain()
    answer = await get(app, "/ready")
    assert (answer.code, answer.json["ready"]) == (503, False)
    assert (await get(app, "/live")).code == 200


async def test_report_is_the_report() -> None:
    answer = await get(app_of("degraded", detail="full"), "/report")
    report = HealthReport.model_validate_json(answer.body)
    assert (report.status, [row.name for row in report.components]) == ("degraded", ["database"])


async def test_one_row_of_the_report_has_a_path_of_its_own() -> None:
    answer = await get(app_of("down"), "/report/database")
    assert (answer.json["name"], answer.json["state"]) == ("database", "down")


@pytest.mark.parametrize("name", ["a/b/c", "100 %", "%2F", "ümlaut", "a b", "..", "x?y#z", "ends/"])
async def test_a_component_may_have_any_name_that_is_legal(name: str) -> None:
    registry = registry_of()
    registry.register(name, Told())
    assert (await get(health_app(registry), f"/report/{name}")).json["name"] == name


# --- startup


async def test_startup_is_no_until_it_passes_and_yes_for_ever_after() -> None:
    registry = registry_of()
    check = registry.register("migrations", Told(False), probes=("startup",))
    app = health_app(registry)
    assert [(await get(app, path)).code for path in ("/startup", "/ready")] == [503, 200]
    check.outcome = True
    answer = await get(app, "/startup")
    assert (answer.code, answer.json) == (200, {"ready": True, "components": {"migrations": "up"}})
    check.outcome = False
    calls = check.calls
    assert (await get(app, "/startup")).code == 200
    assert check.calls == calls


# --- what is not there


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthy",
        "/health/nothing",
        "/health/live/more",
        "/health//live",
        "/other/health",
        "/health/report/nobody",
        "/health/report/nobody/",
        "/health/report/" + "x" * 10_000,
        "/health/<script>alert(1)</script>",
        "/metrics/more",
        "/health/metrics",
    ],
)
async def test_what_is_not_there_is_404_without_an_echo(path: str) -> None:
    answer = await request(app_of(), path)
    assert (answer.code, answer.json) == (404, {"error": "not found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "x"])
@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_405_and_say_which_are_not(method: str, path: str) -> None:
    answer = await request(app_of(), f"/health{path}", method)
    assert (answer.code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json == {"error": "only GET and HEAD are allowed"}


@pytest.mark.parametrize("path", ["", "/live", "/ready", "/startup", "/page", "/nothing"])
async def test_head_is_get_without_the_body(path: str) -> None:
    app = health_app(HealthRegistry(settings=HealthSettings(http_max_age_seconds=60)))
    with_body = await request(app, f"/health{path}")
    without = await request(app, f"/health{path}", "HEAD")
    assert (without.code, without.headers, without.body) == (
        with_body.code,
        with_body.headers,
        b"",
    )


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_every_answer_has_the_headers_that_keep_it_safe(path: str) -> None:
    answer = await get(app_of(), path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept, Authorization"
    for header in ("content-security-policy", "x-content-type-options"):
        assert (header in answer.headers) == (path == "/page")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "allow" not in answer.headers
    kind = "text/html; charset=utf-8" if path == "/page" else "application/json"
    assert answer.headers["content-type"] == kind


async def test_a_slash_at_the_end_is_no_other_path() -> None:
    app = app_of()
    for path in ("/", "/live/", "/ready/", "/report/", "/report/database/"):
        assert (await get(app, path)).code == 200


# --- detail


@pytest.mark.parametrize("path", PATHS)
async def test_minimal_has_the_three_paths_of_the_contract(path: str) -> None:
    answer = await get(app_of(detail="minimal"), path)
    assert answer.code == (200 if path in {"", "/live", "/ready"} else 404)


async def test_minimal_does_not_tell_a_method_from_a_path_that_is_hidden() -> None:
    assert (await request(app_of(detail="minimal"), "/health/report", "POST")).code == 404


async def test_safe_shows_the_kind_of_a_failure_and_full_its_words() -> None:
    details: tuple[Detail, ...] = ("safe", "full")
    for detail in details:
        registry = registry_of(detail=detail)
        registry.register("database", Told(ValueError("it broke")))
        row = (await get(health_app(registry), "/report/database")).json
        failure = cast("dict[str, object]", row["failure"])
        assert (failure["kind"], failure["exception_type"]) == ("exception", "ValueError")
        assert failure["message"] == {"safe": None, "full": "it broke"}[detail]


# --- mounting


@pytest.mark.parametrize(
    ("prefix", "root_path", "path"),
    [
        ("/health", "", "/health/live"),
        ("/health/", None, "/health/live"),
        ("", None, "/live"),
        ("/-/probes", None, "/-/probes/live"),
        ("", "/health", "/health/live"),
        ("/health", "/api/v1", "/api/v1/health/live"),
    ],
)
async def test_it_can_be_mounted_anywhere(prefix: str, root_path: str | None, path: str) -> None:
    app = health_app(registry_of(), prefix=prefix)
    assert (await request(app, path, root_path=root_path)).json == {"status": "alive"}


async def test_lifespan_is_followed_to_its_end() -> None:
    sent = await converse(app_of(), "lifespan", "lifespan.startup", "lifespan.shutdown")
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_closed() -> None:
    assert await converse(app_of(), "websocket", "websocket.connect") == ["websocket.close"]
