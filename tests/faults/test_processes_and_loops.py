"""Forks, several event loops, uvloop, and changes while reports are made: rows 21 and 24."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from cqrs_ddd_health import HealthRegistry
from tests.faults.figures import Record
from tests.servers import OwnRedis

REPOSITORY = Path(__file__).parents[2]
# To fork a process with threads is the test, and the programs leave their clients open.
WARNINGS = ["-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::ResourceWarning"]
LIMIT_SECONDS = 30


@pytest.mark.parametrize(
    "program",
    [
        "fork_after_import",
        "fork_after_use",
        "fork_while_a_check_hangs",
        "fork_with_locks_held",
        "loops_one_after_the_other",
        "loops_at_once",
        "loop_closed_in_mid_flight",
        "uvloop_alone",
        "uvloop_after_asyncio",
    ],
)
def test_it_works_in_every_process_and_loop(
    own_redis: OwnRedis, record: Record, program: str
) -> None:
    """Row 21. A child of a fork and a second loop ask as if they were the first.

    Red when `Runner.forget_flights` keeps the flights, or `Runner.ask` takes the owner loop for one
    that runs although it no longer does.
    """
    done = run(program, own_redis.port)
    record(21, "forks, loops and uvloop: programs that hang", done is None, "hangs")
    assert done is not None
    assert (done.returncode, done.stdout) == (0, f"{program} ok\n"), done.stderr
    assert done.stderr == ""


def run(program: str, redis_port: int) -> subprocess.CompletedProcess[str] | None:
    """Run it to its end; none if it hangs."""
    try:
        return subprocess.run(
            [sys.executable, *WARNINGS, "-m", "tests.faults.programs", program],
            env={**not_measured(), "REDIS_PORT": str(redis_port)},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def not_measured() -> dict[str, str]:
    """The environment without coverage, whose own lock a fork may leave held in the child."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


REPORTS = 600
NAMES = 8
# How often as long as its turn took a thread rests after it: however slow the machine, the four
# leave more than half of the time to the loop. Without a rest they starve it, limits and all.
RESTS_PER_TURN = 9


class Changes:
    """Threads that change a registry, each in its way, until the block is left."""

    def __init__(self, registry: HealthRegistry) -> None:
        self.errors: list[BaseException] = []
        self._registry = registry
        self._switch_interval = sys.getswitchinterval()
        self._stop = threading.Event()
        changes = (self._register, self._come_and_go, self._beat, self._collect)
        self._threads = [threading.Thread(target=self._repeat, args=(what,)) for what in changes]

    def __enter__(self) -> Self:
        sys.setswitchinterval(1e-4)  # fifty times as often as usual: races are met
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        sys.setswitchinterval(self._switch_interval)

    def _repeat(self, change: Callable[[int], None]) -> None:
        try:
            for turn in itertools.takewhile(lambda _: not self._stop.is_set(), itertools.count()):
                began = time.monotonic()
                change(turn)
                self._stop.wait((time.monotonic() - began) * RESTS_PER_TURN)
        except BaseException as error:
            self.errors.append(error)

    def _register(self, turn: int) -> None:
        self._registry.register(f"check {turn % NAMES}", suspended if turn % 3 else blocking)

    def _come_and_go(self, turn: int) -> None:
        self._registry.register(f"guest {turn % NAMES}", suspended)
        self._registry.unregister(f"guest {turn % NAMES}")

    def _beat(self, turn: int) -> None:
        self._registry.heartbeat(f"worker {turn % NAMES}")
        if turn % 50 == 0:
            self._registry.retire(f"worker {turn % NAMES}")

    def _collect(self, _: int) -> None:
        gc.collect()


async def test_reports_are_consistent_whatever_changes_while_they_are_made(record: Record) -> None:
    """Row 24. Checks come, are replaced and go, workers beat, and the collector runs.

    Red when `Catalog._change` puts the new slots into the mapping that readers have.
    """
    registry = HealthRegistry()
    registry.register("steady", suspended)
    with Changes(registry) as changes:
        for _ in range(REPORTS // 10):
            async with asyncio.timeout(30):
                reports = await asyncio.gather(*(registry.report() for _ in range(10)))
            for report in reports:
                names = [(row.kind, row.name) for row in report.components]
                assert len(names) == len(set(names))
                assert ("check", "steady") in names
                assert report.status == "healthy", report
    record(24, f"{REPORTS} reports while all changes: errors", len(changes.errors), "errors")
    assert changes.errors == []
    assert registry.hung_checks == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cqrs-health")]


async def suspended() -> bool:
    await asyncio.sleep(0)
    return True


def blocking() -> bool:
    return True
