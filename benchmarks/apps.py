"""What the load is put on: one application on uvicorn with uvloop and httptools, in a process.

`python -m benchmarks.apps KIND [BYTES]` prints its port and serves until its input ends. The kinds:
`health` has five checks, `hanging` one that never ends, `bare` sends BYTES bytes of JSON under two
headers, and `dressed` the same under as many as we send.
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
from typing import TypeAlias

import uvicorn

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.web import asgi

__all__ = ["CHECKS", "HANGING", "SECURITY_HEADERS", "STATE_PATH"]

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


def bare(size: int, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> App:
    """Return the least application that answers in JSON."""
    body = json.dumps("x" * (size - 2)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more_headers,
    ]

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def health() -> App:
    """Return ours with checks that answer at once."""
    registry = HealthRegistry()
    for number in range(CHECKS):
        registry.register(f"check {number}", _answering)
    return asgi.health_app(registry)


async def _answering() -> bool:
    return True


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
    match kind:
        case "bare":
            return bare(size)
        case "dressed":
            return bare(size, SECURITY_HEADERS)
        case "health":
            return health()
        case _:
            return hanging()


if __name__ == "__main__":
    _serve(_app(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2))
