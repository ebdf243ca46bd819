"""`HealthServer` and uvicorn say the same, field by field and byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import uvicorn

from cqrs_ddd_health import HealthRegistry, HealthServer
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import eventually_sync

REQUESTS = [
    f"{method} {path} HTTP/1.1"
    for method in ("GET", "HEAD", "POST", "TRACE")
    for path in (
        *(f"/health{path}" for path in ("", "/", "/live", "/ready", "/startup", "/report")),
        *("/health/page", "/health/report/a%20b", "/health/report/%ff", "/health/report/no"),
        *("/", "/health?a=b", "/x%2f/", "//health"),
    )
]


@contextmanager
def uvicorn_serving(registry: HealthRegistry) -> Generator[int]:
    config = uvicorn.Config(health_app(registry), log_level="warning", server_header=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually_sync(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def answer(port: int, request: str) -> tuple[str, list[str], bytes]:
    """Return the first line, the fields but for the date, and the body."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(f"{request}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    return first, sorted(field for field in fields if not field.startswith("date: ")), body


@pytest.mark.parametrize("state", [True, False])
def test_every_answer_is_that_of_uvicorn(state: bool) -> None:
    registry = HealthRegistry(clock=FakeClock())
    registry.register("a b", lambda: state)
    registry.report_sync()
    with uvicorn_serving(registry) as port, HealthServer(registry, port=0) as server:
        for request in REQUESTS:
            assert answer(server.port, request) == answer(port, request), request
