"""The application and the router of FastAPI answer alike, byte for byte."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from jsonschema import Draft202012Validator

from cqrs_ddd_health import HealthRegistry, HealthSettings, InvalidOptionError, SettingsError
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.fastapi import health_router
from tests.core.actors import Told
from tests.core.asgi_client import Application, Response, converse, request

Make: TypeAlias = "Callable[[HealthRegistry, str], Application]"
TOKEN = "0123456789abcdef"
NAMES = ["database", "a/b", "100 %", "\u00fc", "..", "x?y#z", "ends/", "/", "{component}"]
LEVELS: tuple[Detail, ...] = ("minimal", "safe", "full", "authorized")


def routed(registry: HealthRegistry, prefix: str = "/health") -> FastAPI:
    app = FastAPI()
    app.include_router(health_router(registry, prefix=prefix))
    return app


def plain(registry: HealthRegistry, prefix: str = "/health") -> Application:
    return health_app(registry, prefix=prefix)


BOTH = pytest.mark.parametrize("make", [plain, routed])


def registry_of(detail: Detail = "safe", **said: object) -> HealthRegistry:
    """Return a registry of which each report takes as long, and is made at the same time."""
    settings = HealthSettings.model_validate({"detail": detail, "bearer_token": TOKEN, **said})
    registry = HealthRegistry(settings=settings, clock=FakeClock())
    for name in NAMES:
        registry.register(name, Told(), tags=["named"])
    registry.register("broken", Told(ValueError("it broke")), critical=False, probes=())
    registry.register("slow to start", Told(False), probes=["startup"])
    registry.heartbeat("worker", instance="host:1")
    return registry


REQUESTS = [
    *[(method, "", "") for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE", "x")],
    *[("GET", path, "") for path in ("/live", "/ready", "/startup", "/report", "/page")],
    *[("GET", f"{path}/", "") for path in ("", "/live", "/ready", "/startup", "/report", "/page")],
    *[
        ("HEAD", path, "")
        for path in ("/live", "/ready/", "/startup", "/report", "/page", "/page/")
    ],
    *[("PUT", path, "") for path in ("/live/", "/report", "/report/x", "/page", "/report/")],
    *[("GET", f"/report/{name}", "") for name in (*NAMES, "broken", "worker", "nobody", "broken/")],
    ("GET", "/report/a\nb", ""),
    ("HEAD", "/report/database", ""),
    ("HEAD", "/report/nobody", ""),
    *[("GET", path, "tag=named") for path in ("/report", "/page", "/ready", "/report/broken")],
    *[("GET", path, "tag=nobody") for path in ("/report", "/page", "/ready")],
]
HEADERS: list[dict[str, str]] = [
    {},
    {"accept": "application/health+json"},
    {"authorization": f"Bearer {TOKEN}"},
    {"authorization": "Bearer wrong", "accept": "text/html"},
]


@pytest.mark.parametrize("detail", LEVELS)
async def test_every_answer_is_the_same(detail: Detail) -> None:
    registry = registry_of(detail)
    await registry.report()
    one, other = plain(registry), routed(registry)
    for method, path, query in REQUESTS:
        for headers in HEADERS:
            asked = method, f"/health{path}", query, headers
            answers = [
                await request(app, f"/health{path}", method, query=query, headers=headers)
                for app in (one, other)
            ]
            if detail == "minimal" and answers[0].code == 404:
                assert answers[1].code == 404, asked  # as the application answers it
            else:
                assert answers[0] == answers[1], asked


@BOTH
@pytest.mark.parametrize(
    ("prefix", "path"),
    [("", "/live"), ("", "/"), ("/health/", "/health/live"), ("/a/b", "/a/b/report/database")],
)
async def test_any_prefix(make: Make, prefix: str, path: str) -> None:
    assert (await request(make(registry_of(), prefix), path)).code in {200, 503}


@BOTH
@pytest.mark.parametrize("path", ["/health/nothing", "/health/live/more", "/healthy", "/m4rk"])
async def test_what_is_not_there_is_404_without_an_echo(make: Make, path: str) -> None:
    answer = await request(make(registry_of(), "/health"), path)
    assert answer.code == 404
    assert not [part for part in path.split("/") if part and part in answer.text]


@pytest.mark.parametrize("make", [health_app, health_router])
def test_what_makes_no_sense_is_refused_at_once(make: Callable[..., object]) -> None:
    with pytest.raises(InvalidOptionError, match="prefix must be empty or begin with a slash"):
        make(registry_of(), prefix="health")
    with pytest.raises(InvalidOptionError, match="authorizer must be callable"):
        make(registry_of(), authorizer=1)
    with pytest.raises(SettingsError, match="CQRS_HEALTH_BEARER_TOKEN"):
        make(registry_of("authorized", bearer_token=None))


async def test_an_authorizer_of_the_router_is_asked() -> None:
    app = FastAPI()
    app.include_router(
        health_router(registry_of("authorized"), authorizer=lambda scope: scope["method"] == "GET")
    )
    assert "it broke" in (await request(app, "/health/report")).text


async def test_answers_are_kept_and_shared() -> None:
    registry = registry_of(http_max_age_seconds=60)
    check = registry.register("counted", Told())
    app = routed(registry)
    for path in ("", "/ready", "/report", "/report/counted", "/page", "/ready", "") * 3:
        await request(app, f"/health{path}")
    assert check.calls == 1


# --- as part of an application


async def test_the_application_keeps_what_is_below_the_prefix() -> None:
    app = routed(registry_of())

    def mine() -> str:
        return "mine"

    app.get("/health/mine")(mine)
    assert (await request(app, "/health/mine")).text == '"mine"'


async def test_dependencies_hold_for_every_path_and_method() -> None:
    def refuse() -> None:
        raise HTTPException(403)

    app = FastAPI()
    app.include_router(health_router(registry_of("full")), dependencies=[Depends(refuse)])
    for path in ("", "/", "/live", "/report", "/report/", "/report/broken", "/page", "/page/"):
        for method in ("GET", "HEAD"):
            assert (await request(app, f"/health{path}", method)).code == 403
        assert (await request(app, f"/health{path}", "POST")).code == 405


async def test_a_router_in_a_router_and_a_mounted_application() -> None:
    inner = APIRouter()
    inner.include_router(health_router(registry_of()), prefix="/v1")
    app, outer = FastAPI(), FastAPI()
    app.include_router(inner, prefix="/api")
    outer.mount("/outer", app)
    answer = await request(outer, "/outer/api/v1/health/report/a/b")
    assert (answer.code, answer.json["name"]) == (200, "a/b")


async def test_two_routers_of_two_registries() -> None:
    app = FastAPI()
    for prefix, name in (("/one", "first"), ("/two", "second")):
        registry = HealthRegistry()
        registry.register(name, Told())
        app.include_router(health_router(registry, prefix=prefix))
    assert list(cast("dict[str, str]", (await get(app, "/one")).json["components"])) == ["first"]
    assert list(cast("dict[str, str]", (await get(app, "/two")).json["components"])) == ["second"]
    assert len(app.openapi()["paths"]) == 14


async def get(app: Application, path: str) -> Response:
    return await request(app, path)


async def test_the_lifespan_of_the_application_refreshes() -> None:
    registry, own = registry_of(), list[str]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        own.append(f"begin {registry.refreshing}")
        yield
        own.append(f"end {registry.refreshing}")

    app = FastAPI(lifespan=lifespan)
    app.include_router(health_router(registry))
    received: list[str] = []
    sent = await converse(
        app,
        "lifespan",
        "lifespan.startup",
        "lifespan.shutdown",
        seen=lambda: received.append(str(registry.refreshing)),
    )
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert received == ["False", "True"]
    assert own == ["begin False", "end False"]
    assert not registry.refreshing


# --- what the documents say


def openapi_of(detail: Detail = "safe") -> dict[str, Any]:
    return routed(registry_of(detail)).openapi()


def test_the_document_shows_the_models() -> None:
    document = openapi_of()
    models = {"HealthReport", "ComponentStatus", "Failure", "HeartbeatRecord", "ServiceInfo"}
    assert models <= document["components"]["schemas"].keys()
    answers = document["paths"]["/health/report"]["get"]["responses"]
    assert answers.keys() == {"200", "404", "503"}
    for code in ("200", "503"):
        content = answers[code]["content"]
        assert content["application/json"]["schema"]["$ref"].endswith("/HealthReport")
        Draft202012Validator.check_schema(content["application/health+json"]["schema"])
    assert answers["404"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorDict")
    page = document["paths"]["/health/page"]["get"]["responses"]["200"]["content"]
    assert page.keys() == {"text/html"}


def test_what_is_documented_is_what_there_is() -> None:
    paths = {"", "/live", "/ready", "/startup", "/report", "/report/{component}", "/page"}
    document = openapi_of()
    assert document["paths"].keys() == {f"/health{path}" for path in paths}
    assert {"get"} == {method for path in document["paths"].values() for method in path}
    parameters = document["paths"]["/health/report/{component}"]["get"]["parameters"]
    assert [(parameter["name"], parameter["in"]) for parameter in parameters] == [
        ("component", "path")
    ]
    minimal = openapi_of("minimal")["paths"]
    assert minimal.keys() == {"/health", "/health/live", "/health/ready"}


async def test_the_page_of_the_documentation_is_there() -> None:
    assert (await request(routed(registry_of()), "/docs")).code == 200


def test_without_fastapi_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "cqrs_ddd_health.web.fastapi")
    with pytest.raises(ImportError, match=r"pip install 'cqrs-ddd-health\[fastapi\]'"):
        importlib.import_module("cqrs_ddd_health.web.fastapi")
