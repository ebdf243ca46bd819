"""Ten thousand clients of one HTTP server, and the server that they ask."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from pathlib import Path
from typing import NamedTuple

from tests.processes import LOCALHOST
from tests.service import Service, bare_environment

CLIENTS = 10_000

# One check that hangs until its timeout; `/control` waits as long as a probe may and answers
# without the library; `/state` tells what the process holds.
PROGRAM = """
import asyncio, gc, json, resource, socket
import uvicorn
from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.web.asgi import health_app

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
registry = HealthRegistry()
flights = 0

@registry.register("hangs", timeout_seconds=30)
async def hangs():
    global flights
    flights += 1
    await asyncio.Event().wait()

health = health_app(registry)

async def answer(send, body):
    body = json.dumps(body).encode()
    length = str(len(body)).encode()
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    await send(start)
    await send({"type": "http.response.body", "body": body})

async def app(scope, receive, send):
    path = scope.get("path")
    if path == "/control":
        await asyncio.sleep(registry.settings.http_deadline_seconds)
        await answer(send, {"ready": False})
    elif path == "/state":
        gc.collect()
        futures = sum(isinstance(found, asyncio.Future) for found in gc.get_objects())
        tasks = len(asyncio.all_tasks())
        await answer(send, {"flights": flights, "futures": futures, "tasks": tasks})
    else:
        await health(scope, receive, send)

listener = socket.create_server(("127.0.0.1", 0), backlog=16384)
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", backlog=16384)).run(sockets=[listener])
"""


class Held(NamedTuple):
    """What the server's process holds."""

    flights: int
    futures: int
    tasks: int


def serve(directory: Path) -> Service:
    """The server, for a test of its own."""
    return Service(["-c", PROGRAM], bare_environment(directory), directory)


def held(service: Service) -> Held:
    """What it holds now, apart from the question itself."""
    return Held(**service.get("/state").json)


def allow_connections() -> None:
    """Have as many open files as the system lets us: every client is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def question(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


class Client(asyncio.Protocol):
    """One connection; it notes when the first bytes of its answer came."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked_at = 0.0
        self.answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, path: str) -> None:
        assert self.transport is not None
        self.asked_at = time.perf_counter()
        self.transport.write(question(path))

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if not self.answered.done():
            self.answered.set_result(time.perf_counter() - self.asked_at)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError("closed without an answer"))
            self.answered.exception()  # somebody may have hung up on purpose

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.abort()


async def connected(port: int, clients: int = CLIENTS) -> list[Client]:
    """So many connections that have asked nothing yet, made in batches that the backlog holds."""
    loop = asyncio.get_running_loop()
    made: list[Client] = []
    while len(made) < clients:
        batch = [
            loop.create_connection(Client, LOCALHOST, port, family=socket.AF_INET)
            for _ in range(min(500, clients - len(made)))
        ]
        made += [client for _, client in await asyncio.gather(*batch)]
    return made


async def answers(port: int, path: str) -> tuple[list[float], set[bytes]]:
    """Have them all ask at once: how long each waited, and which first lines they got."""
    clients = await connected(port)
    for client in clients:
        client.ask(path)
    waits = await asyncio.wait_for(asyncio.gather(*(client.answered for client in clients)), 60)
    for client in clients:
        client.hang_up()
    return waits, {client.answer.partition(b"\r\n")[0] for client in clients}
