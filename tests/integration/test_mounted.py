"""Mounted under Starlette, FastAPI, Litestar and Django's ASGI it is what it is alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import django
import pytest
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI
from litestar import Litestar, asgi
from litestar.types import ASGIApp
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend
from starlette.applications import Starlette
from starlette.routing import Mount

from cqrs_ddd_health import CheckOptions, HealthRegistry, HealthSettings
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import Receive, Scope, Send, health_app
from cqrs_ddd_health.web.fastapi import health_router
from tests.core.actors import Told
from tests.core.asgi_client import Application

from .serving import served

Make: TypeAlias = "Callable[[HealthRegistry], Application]"
TOKEN = "0123456789abcdef"


def alone(registry: HealthRegistry) -> Application:
    return health_app(registry)


def in_starlette(registry: HealthRegistry) -> Application:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with registry.running():
            yield

    return Starlette(routes=[Mount("/health", health_app(registry, prefix=""))], lifespan=lifespan)


def in_fastapi(registry: HealthRegistry) -> Application:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with registry.running():
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/health", health_app(registry, prefix=""))
    return app


def routed(registry: HealthRegistry) -> Application:
    app = FastAPI()
    app.include_router(health_router(registry))
    return app


def in_litestar(registry: HealthRegistry) -> Application:
    health = cast("ASGIApp", health_app(registry, prefix=""))  # its own words for ASGI

    @asgi("/health", is_mount=True, copy_scope=True)
    async def mounted(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await health(scope, receive, send)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        async with registry.running():
            yield

    return cast("Application", Litestar([mounted], lifespan=[lifespan]))


def _hello(_: HttpRequest) -> HttpResponse:
    return HttpResponse(b"hello")


urlpatterns = [django_path("hello", _hello)]


def in_django(registry: HealthRegistry) -> Application:
    configuration = cast("Any", django_settings)  # it has no types
    if not configuration.configured:
        configuration.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
        django.setup()
    theirs = get_asgi_application()
    ours = health_app(registry)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        # Django does not speak the lifespan protocol; ours refreshes by it.
        is_ours = scope["type"] == "lifespan" or str(scope["path"]).startswith("/health")
        await (ours if is_ours else theirs)(scope, receive, send)

    return application


MAKERS = [alone, in_starlette, in_fastapi, routed, in_litestar, in_django]


def registry_of() -> HealthRegistry:
    settings = HealthSettings.model_validate({"detail": "authorized", "bearer_token": TOKEN})
    registry = HealthRegistry(settings=settings, clock=FakeClock())
    # Asked by the first request and not again meanwhile: the page shows each result.
    once = CheckOptions(interval_seconds=3_600, initial_delay_seconds=3_600)
    registry.register("database", Told(), tags=["db"], options=once)
    registry.register("a/b %2F", Told(ValueError("it broke")), critical=False, options=once)
    registry.heartbeat("worker", instance="host:1")
    return registry


REQUESTS = [
    *[("GET", path) for path in ("", "/live", "/ready", "/startup", "/report", "/page")],
    *[("HEAD", path) for path in ("", "/live", "/report", "/page")],
    *[("POST", path) for path in ("/live", "/report", "/report/database")],
    *[("GET", f"/report/{name}") for name in ("database", "a%2Fb%20%252F", "worker", "nobody")],
    *[("GET", path) for path in ("/report?tag=db", "/page?tag=db", "/report?tag=nobody", "/live/")],
]
HEADERS = [{}, {"Authorization": f"Bearer {TOKEN}"}, {"Accept": "application/health+json"}]


@pytest.mark.parametrize("make", MAKERS)
def test_every_answer_is_that_of_the_application_alone(make: Make) -> None:
    registry = registry_of()
    with served(alone(registry)) as one, served(make(registry)) as other:
        for method, path in REQUESTS:
            for headers in HEADERS:
                answers = [
                    client.request(method, f"/health{path}", headers=headers, follow_redirects=True)
                    for client in (one, other)
                ]
                expected, answer = answers
                asked = method, path, headers
                assert (answer.status_code, answer.content) == (
                    expected.status_code,
                    expected.content,
                ), asked
                for header in ("content-type", "content-length", "cache-control", "vary", "allow"):
                    assert answer.headers.get(header) == expected.headers.get(header), asked


@pytest.mark.parametrize("make", MAKERS)
def test_the_background_refresh_lasts_as_long_as_the_server(make: Make) -> None:
    registry = registry_of()
    with served(make(registry)) as client:
        assert client.get("/health/live").status_code == 200
        assert registry.refreshing
    assert not registry.refreshing


def test_django_keeps_its_own_paths() -> None:
    with served(in_django(registry_of())) as client:
        assert client.get("/hello").text == "hello"
        assert client.get("/nothing").status_code == 404
