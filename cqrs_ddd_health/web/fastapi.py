"""The report as a router of FastAPI: the answers of `health_app`, and in `/docs` what they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from . import responses as formats
from .authorization import Authorizer
from .openapi import DESCRIPTIONS, OPERATIONS, Operation, error_content, other_content
from .responder import COMPONENT, CONTRACT, METHODS, Responder, prefix_of
from .responses import Answer

try:
    from fastapi import APIRouter, Request, Response
    from fastapi.responses import HTMLResponse, JSONResponse
    from starlette.convertors import PathConvertor, register_url_convertor
except ImportError as _error:
    raise ImportError(
        "health_router needs FastAPI: pip install 'cqrs-ddd-health[fastapi]'"
    ) from _error

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["Authorizer", "health_router"]

_Endpoint: TypeAlias = "Callable[[Request], Awaitable[Response]]"


class _AnyText(PathConvertor):
    """The rest of a path as `{:path}` is, but with line breaks: what has some is 404 by us too."""

    regex = "(?s:.*)"


class _OrSlash(PathConvertor):
    """Nothing or a slash. Each route less makes all of an application a little faster."""

    regex = "/?"


_ASKED_OFTEN = ("/live", "/ready")
_ANY_TEXT, _OR_SLASH = "cqrs_health_component", "cqrs_health_slash"
register_url_convertor(_ANY_TEXT, _AnyText())
register_url_convertor(_OR_SLASH, _OrSlash())


def health_router(
    registry: HealthRegistry, *, prefix: str = "/health", authorizer: Authorizer | None = None
) -> APIRouter:
    """Return a router with the paths of `health_app`, for `app.include_router`.

    It answers as `health_app` does, byte for byte, and takes the same arguments. What is not there
    is the application's to answer. While the application runs, from the startup to the shutdown of
    its lifespan, the registry is refreshed in the background. Dependencies that `include_router` is
    given hold for all paths, so for probes too.

    Raises:
        InvalidOptionError: if the prefix could match no path, or the authorizer cannot be called.
        SettingsError: if `CQRS_HEALTH_DETAIL` is `authorized`, and there is neither an authorizer
            nor a `CQRS_HEALTH_BEARER_TOKEN`.
    """
    prefix = prefix_of(prefix)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None]:
        async with registry.running():
            yield

    router = APIRouter(tags=["health"], lifespan=lifespan)
    responder = Responder(registry, authorizer)
    paths = [
        _Path(operation, prefix, responder)
        for operation in OPERATIONS
        if responder.shows(operation.route)
    ]
    # One route is tried after the other: first come those that are asked all the time.
    often = [path for path in paths if path.operation.route in _ASKED_OFTEN]
    for path in often:
        _document(router, path)
    for path in paths:
        if path not in often:
            _document(router, path)
        _complete(router, path)
    return router


class _Path:
    """One path, without and with a slash at its end: to `health_app` that is the same."""

    def __init__(self, operation: Operation, prefix: str, responder: Responder) -> None:
        self.operation = operation
        path = f"{prefix}{operation.route}"
        if operation.route.startswith(COMPONENT):
            self.path = self.either = f"{path.removesuffix('}')}:{_ANY_TEXT}}}"
            self.endpoint = _component(responder)
        else:
            self.path = path or "/"
            self.either = f"{path}{{slash:{_OR_SLASH}}}" if path else "/"
            self.endpoint = _endpoint(operation.route, responder)


def _complete(router: APIRouter, path: _Path) -> None:
    """Add what is asked of a path besides GET of it without a slash."""
    router.add_api_route(path.either, path.endpoint, methods=[*METHODS], include_in_schema=False)
    router.add_route(path.either, _method_not_allowed, methods=[], include_in_schema=False)


def _document(router: APIRouter, path: _Path) -> None:
    """Add GET of a path."""
    operation = path.operation
    is_page = 200 not in operation.bodies
    responses: dict[int | str, dict[str, object]] = {
        code: {"model": body, "description": DESCRIPTIONS[code]}
        for code, body in operation.bodies.items()
        if code != 200
    }
    content = other_content(operation)
    for code in {200, *responses} - {404} if content else ():
        responses.setdefault(code, {})["content"] = content
    if is_page:  # a model would be of the page's media type
        responses[404] = {"description": DESCRIPTIONS[404], "content": error_content()}
    router.add_api_route(
        path.path,
        path.endpoint,
        methods=["GET"],
        name=f"health_{operation.name}",
        summary=operation.summary,
        description=operation.description,
        response_model=operation.bodies.get(200),
        response_description=DESCRIPTIONS[200],
        response_class=HTMLResponse if is_page else JSONResponse,
        responses=responses,
        openapi_extra={"parameters": list(operation.parameters)} if operation.parameters else None,
    )


def _endpoint(route: str, responder: Responder) -> _Endpoint:
    keys = responder.usual_keys(route) if route in CONTRACT else None

    async def endpoint(request: Request) -> Response:
        kept = None if keys is None else responder.kept(keys)
        return _Prepared(request, kept or await responder.answer(route, request.scope))

    return endpoint


def _component(responder: Responder) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        route = f"{COMPONENT}{request.path_params['component']}"
        return _Prepared(request, await responder.answer(route, request.scope))

    return endpoint


class _Prepared(Response):
    """An answer as it is, headers included: nothing is rendered or counted anew."""

    def __init__(self, request: Request, answer: Answer) -> None:
        self.status_code = answer.code
        self.body = b"" if request.method == "HEAD" else answer.body
        self.raw_headers = list(answer.headers)  # one of its own: middleware adds to it
        self.background = None


async def _method_not_allowed(request: Request) -> Response:
    """What any method gets that no route before it has taken."""
    return _Prepared(request, formats.method_not_allowed())
