"""SIGTERM in the middle of a flight, and a second one: row 23."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.figures import SLACK, Record
from tests.processes import LOCALHOST, wait_until
from tests.service import Service, bare_environment

READY_SECONDS = 0.100

# Checks that never answer, of which the clients below are waiting for one at any time: it has no
# outcome yet that could be shown instead.
PROGRAM = """
import asyncio, socket, threading
import uvicorn
from cqrs_ddd_health import HealthRegistry, drain_on_sigterm
from cqrs_ddd_health.web.asgi import health_app

registry = HealthRegistry()
registry.register("async", asyncio.Event().wait, timeout_seconds=3600)
registry.register("sync", threading.Event().wait, timeout_seconds=3600)
health = health_app(registry)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        with drain_on_sigterm(registry, delay_seconds=3600):
            await health(scope, receive, send)
    else:
        await health(scope, receive, send)

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


def code_of(service: Service, path: str) -> int:
    """What is answered, with a client that costs little itself."""
    connection = http.client.HTTPConnection(LOCALHOST, service.port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


class Asker(threading.Thread):
    """Asks again and again; notes when each answer was asked for, when it came, and its code."""

    def __init__(self, service: Service, path: str) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, float, int]] = []
        self._ask: Callable[[], int] = lambda: code_of(service, path)

    def run(self) -> None:
        while True:
            asked = time.monotonic()
            try:
                code = self._ask()
            except (OSError, http.client.HTTPException):
                return
            self.answers.append((asked, time.monotonic(), code))


@pytest.mark.parametrize("turn", range(3))
def test_ready_says_no_at_once_in_the_middle_of_a_flight_and_live_yes_to_the_end(
    record: Record, tmp_path: Path, turn: int
) -> None:
    """Row 23. The control is live, which waits for nothing.

    Red when ready waits for its checks while the registry is draining.
    """
    with Service(["-c", PROGRAM], bare_environment(tmp_path), tmp_path) as service:
        live, waiting = Asker(service, "/health/live"), Asker(service, "/health/ready")
        live.start()
        waiting.start()
        assert wait_until(lambda: len(live.answers) > 20 and len(waiting.answers) > 0)
        sent = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        code = code_of(service, "/health/ready")
        took = time.monotonic() - sent
        report = service.get("/health/report").json
        asked = len(live.answers)
        assert wait_until(lambda: len(live.answers) > asked + 20)
        control = max(came - asked for asked, came, _ in live.answers)
        service.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: service.process.poll() is not None)
        live.join(10)
        waiting.join(10)
    assert (code, report["draining"]) == (503, True)
    assert {row["failure"]["kind"] for row in report["components"]} <= {"pending"}
    assert {code for _, _, code in live.answers} == {200}
    record(23, "SIGTERM in the middle of a flight: ready says no", took * 1e3, "ms")
    record(23, "SIGTERM in the middle of a flight: live, slowest (control)", control * 1e3, "ms")
    assert took < SLACK * READY_SECONDS + control
