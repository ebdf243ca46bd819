"""What the load is put on: one application on uvicorn with uvloop and httptools, in a process.

`python -m benchmarks.apps KIND [BYTES]` prints its port and serves until its input ends. The kinds:
`health` has five checks, `hanging` one that never ends, `bare` sends BYTES bytes of JSON under two
headers, and `dressed` the same under as many as we send. `router` has the five checks in a router
of FastAPI, `route` and `dressed route` are a router of FastAPI that returns such bytes, and `route
of app` is a route without one. Any other kind is the name of a peer.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import uvicorn

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.web import asgi

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

__all__ = ["CHECKS", "HANGING", "SECURITY_HEADERS", "STATE_PATH", "App", "answering"]

CHECKS = 5
HANGING = "hanging"
STATE_PATH = "/state"
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept, Authorization"),
)

Message: TypeAlias = "MutableMapping[str, object]"
Scope: TypeAlias = "MutableMapping[str, object]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"
App: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"


async def answering() -> bool:
    """Be a check that answers at once."""
    return True


def bare(size: int, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> App:
    """Return the least application that answers in JSON."""
    body = prepared(size)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more_headers,
    ]

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def prepared(size: int) -> bytes:
    """Return so many bytes of JSON, at least the two that the least text has."""
    return json.dumps("x" * (size - 2)).encode()


def health() -> App:
    """Return ours with checks that answer at once."""
    return asgi.health_app(_checked_registry())


def _checked_registry() -> HealthRegistry:
    registry = HealthRegistry()
    for number in range(CHECKS):
        registry.register(f"check {number}", answering)
    return registry


def router() -> App:
    """Return ours as a router of FastAPI."""
    from fastapi import FastAPI

    from cqrs_ddd_health.web.fastapi import health_router

    app = FastAPI()
    app.include_router(health_router(_checked_registry()))
    return app


def route(size: int, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> App:
    """Return the least router of FastAPI that answers in JSON, under both paths."""
    from fastapi import APIRouter, FastAPI

    app, router = FastAPI(), APIRouter()
    _add_route(router, size, more_headers)
    app.include_router(router)
    return app


def route_of_app(size: int) -> App:
    """Return the same without a router."""
    from fastapi import FastAPI

    app = FastAPI()
    _add_route(app, size, ())
    return app


def _add_route(
    place: APIRouter | FastAPI, size: int, more_headers: Iterable[tuple[bytes, bytes]]
) -> None:
    from fastapi import Response

    body = prepared(size)
    more = {name.decode(): value.decode() for name, value in more_headers}

    @place.get("/health/live")
    @place.get("/health/ready")
    async def answer() -> Response:
        return Response(body, media_type="application/json", headers=more)


def hanging() -> App:
    """Return ours with a check that never ends, and a path that says how often it was begun."""
    begun: list[float] = []

    async def hang() -> bool:
        begun.append(asyncio.get_running_loop().time())
        while True:  # neither an answer nor its cancellation ends it
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    registry = HealthRegistry()
    registry.register(HANGING, hang)
    ours = asgi.health_app(registry)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != STATE_PATH:
            await ours(scope, receive, send)
            return
        state = json.dumps({"begun": len(begun), "hung": registry.hung_checks}).encode()
        headers = [(b"content-length", b"%d" % len(state))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": state})

    return app


def _serve(app: App) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _app(kind: str, size: int) -> App:
    kinds: dict[str, Callable[[], App]] = {
        "bare": lambda: bare(size),
        "dressed": lambda: bare(size, SECURITY_HEADERS),
        "health": health,
        "hanging": hanging,
        "router": router,
        "route": lambda: route(size),
        "route of app": lambda: route_of_app(size),
        "dressed route": lambda: route(size, SECURITY_HEADERS),
    }
    if kind in kinds:
        return kinds[kind]()
    from .peers import PEERS

    return PEERS[kind].app()


if __name__ == "__main__":
    _serve(_app(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2))
