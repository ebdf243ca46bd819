"""What really goes over the wire validates against `schemas/`: every path, at every level."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthServer, HealthSettings
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.fastapi import health_router
from tests.core.actors import Told

from .serving import served

Serve: TypeAlias = "Callable[[HealthRegistry], Any]"
SCHEMAS = Path(__file__).parents[2] / "schemas"
TOKEN = "0123456789abcdef"
LEVELS: tuple[Detail, ...] = ("minimal", "safe", "full", "authorized")


def by_uvicorn(registry: HealthRegistry) -> Any:
    return served(health_app(registry))


def by_fastapi(registry: HealthRegistry) -> Any:
    app = FastAPI()
    app.include_router(health_router(registry))
    return served(app)


@contextmanager
def by_a_worker(registry: HealthRegistry) -> Generator[httpx.Client]:
    with (
        HealthServer(registry, port=0) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client


def registry_of(detail: Detail) -> HealthRegistry:
    settings = HealthSettings.model_validate(
        {
            "detail": detail,
            "bearer_token": TOKEN,
            "required": ("missing",),
            "service_name": "orders",
            "service_version": "1.2",
            "max_heartbeats": 1,
        }
    )
    registry = HealthRegistry(settings=settings, own_loop=True)
    registry.register("up", Told(CheckResult(details={"pool": {"size": 5}})), tags=["db"])
    registry.register("slow", Told(CheckResult(state="degraded", message="slow")), tags=["db"])
    registry.register("broken", Told(OSError("gone")), probes=("ready", "startup"))
    registry.register("a/b: \"<'\u00fc", Told(False), critical=False)
    for number in range(3):
        registry.heartbeat("relay", instance=f"host:{number}", phase="sending", progress=number)
    registry.expect("never seen", grace_seconds=0)
    return registry


PATHS = {
    "": "status",
    "/live": "live",
    "/ready": "ready",
    "/startup": "ready",
    "/report": "health-report",
    "/report?tag=db": "health-report",
    "/report?tag=nobody": "error",
    "/report/up": "component-status",
    "/report/broken": "component-status",
    "/report/relay": "component-status",
    "/report/a%2Fb%3A%20%22%3C'%C3%BC": "component-status",
    "/report/nobody": "error",
    "/page?tag=nobody": "error",
    "/nothing": None,  # which is the application's to answer
}


def problems(body: bytes, schema: str) -> list[str]:
    """Return what the committed schema has against these bytes."""
    validator: Any = Draft202012Validator(
        json.loads((SCHEMAS / f"{schema}.json").read_text("utf-8")),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    return [error.message for error in validator.iter_errors(json.loads(body))]


@pytest.mark.parametrize("detail", LEVELS)
@pytest.mark.parametrize("serve", [by_uvicorn, by_fastapi, by_a_worker])
def test_every_body_is_valid(serve: Serve, detail: Detail) -> None:
    seen: set[tuple[int, str]] = set()
    with serve(registry_of(detail)) as client:
        for path, schema in PATHS.items():
            for token in (TOKEN, "wrong-0123456789"):
                headers = {"Authorization": f"Bearer {token}"}
                answer = client.get(f"/health{path}", headers=headers)
                hidden = answer.status_code == 404
                seen.add((answer.status_code, path))
                if schema is not None and not (hidden and serve is by_fastapi):
                    expected = "error" if hidden else schema
                    assert problems(answer.content, expected) == [], (path, answer.text)
                assert int(answer.headers["content-length"]) == len(answer.content)
        for method in ("POST", "DELETE", "OPTIONS"):
            answer = client.request(method, "/health/live")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
            assert problems(answer.content, "error") == []
    codes = {code for code, _ in seen}
    assert codes == {200, 404, 503}


@pytest.mark.parametrize("detail", ["safe", "full", "authorized"])
@pytest.mark.parametrize("serve", [by_uvicorn, by_fastapi, by_a_worker])
def test_so_is_the_report_as_health_json(serve: Serve, detail: Detail) -> None:
    with serve(registry_of(detail)) as client:
        for token in (TOKEN, "wrong-0123456789"):
            answer = client.get(
                "/health/report",
                headers={
                    "Accept": "application/health+json, */*;q=0.1",
                    "Authorization": f"Bearer {token}",
                },
            )
            assert answer.headers["content-type"] == "application/health+json"
            assert problems(answer.content, "health-json") == []
            sees_all = detail == "full" or (detail, token) == ("authorized", TOKEN)
            assert ("gone" in answer.text) == sees_all


@pytest.mark.parametrize("serve", [by_uvicorn, by_fastapi, by_a_worker])
def test_head_says_how_long_the_body_would_be(serve: Serve) -> None:
    with serve(registry_of("full")) as client:
        for path in ("", "/live", "/ready", "/startup", "/report/up", "/report/nobody"):
            head = client.head(f"/health{path}")
            get = client.get(f"/health{path}")
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-length"] == str(len(get.content))
