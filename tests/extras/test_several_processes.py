"""Several processes of one service, `uvicorn --workers 2`: what they share, and what not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import LOCALHOST, free_port, reachable, wait_until
from tests.service import bare_environment

APP = """
import os
from pathlib import Path
from cqrs_ddd_health import CheckOptions, HealthRegistry
from cqrs_ddd_health.web.asgi import health_app

runs = Path(__file__).with_name("runs")
registry = HealthRegistry()

@registry.register("check", options=CheckOptions(interval_seconds=0.2, initial_delay_seconds=0))
def check():
    with runs.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return True

health = health_app(registry)

async def app(scope, receive, send):
    if scope.get("path") == "/leave":
        registry.drain()
    elif scope.get("path") == "/beat":
        registry.heartbeat("worker")
    await health(scope, receive, send)
"""


class Fleet:
    """Two worker processes behind one port; each connection reaches either of them."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        (directory / "app.py").write_text(APP)
        command = ["-m", "uvicorn", "app:app", "--workers", "2", "--port", str(self.port)]
        with (directory / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=bare_environment(
                    directory, CQRS_HEALTH_DETAIL="full", CQRS_HEALTH_HTTP_MAX_AGE_SECONDS="0"
                ),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{LOCALHOST}:{self.port}{path}", trust_env=False, timeout=10)

    def report(self) -> Any:
        return self.get("/health/report").json()

    def pids(self) -> set[str]:
        """The processes that have run the check."""
        file = self.directory / "runs"
        return set(file.read_text().split()) if file.exists() else set()

    def until(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition), (self.directory / "log").read_text()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        fleet.until(lambda: reachable(LOCALHOST, fleet.port))
        fleet.until(lambda: len(fleet.pids()) == 2)
        yield fleet
    finally:
        fleet.process.terminate()
        fleet.process.wait(20)


def both(fleet: Fleet, ask: Callable[[], object]) -> set[object]:
    """Ask until both processes have answered, which their answers must tell apart."""
    answers: set[object] = set()

    def asked() -> bool:
        answers.add(ask())
        return len(answers) == 2

    fleet.until(asked)
    return answers


def test_each_process_has_its_own_checks_beats_and_drain(fleet: Fleet) -> None:
    # Its own registry: either answers for itself, under an instance of its own.
    instances = both(fleet, lambda: fleet.report()["service"]["instance"])
    assert {str(name).split(":")[1] for name in instances} == fleet.pids()

    # Its own load: a dependency is asked by each of them.
    (fleet.directory / "runs").unlink()
    fleet.until(lambda: len(fleet.pids()) == 2)

    # Its own workers: a beat is only known where it was made.
    fleet.get("/beat")
    assert both(fleet, lambda: len(fleet.report()["heartbeats"])) == {0, 1}

    # Its own leaving: the other one goes on.
    fleet.get("/leave")
    assert both(fleet, lambda: fleet.get("/health/ready").status_code) == {200, 503}
