"""The checks that the tests of the engine ask, and how to wait for what happens by itself."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

from cqrs_ddd_health import ComponentStatus, HealthRegistry, HealthReport
from cqrs_ddd_health.engine.single_flight import Slot
from cqrs_ddd_health.runtime import readers

PATIENCE_SECONDS = 20.0
"""How long something may take that happens at once on a machine with nothing else to do."""

SHORT = 0.02
"""A timeout or deadline that a test waits for."""


_CALM = "__import__('time').sleep(0.2)"
FORKS = {"Python": "os.fork()", "C": f"({_CALM}, __import__('ctypes').PyDLL(None).fork())[1]"}
"""Ways to fork, by who does it: of one in C Python learns nothing, and runs no hook. A thread that
waits for the interpreter just then leaves it locked in the child, so it comes when all idle."""


class Gated:
    """An async check that answers when its gate is opened."""

    def __init__(self, answer: object = True) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.answer = answer

    async def __call__(self) -> object:
        self.calls += 1
        await self.gate.wait()
        return self.answer


class Stubborn:
    """An async check that swallows every cancellation until it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancellations = 0
        self.released = asyncio.Event()

    async def __call__(self) -> bool:
        self.calls += 1
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancellations += 1
        return True


class Blocked:
    """A sync check that blocks its thread until it is released."""

    def __init__(self, answer: object = True) -> None:
        self.calls = 0
        self.threads: list[threading.Thread] = []
        self.released = threading.Event()
        self.answer = answer

    def __call__(self) -> object:
        self.calls += 1
        self.threads.append(threading.current_thread())
        self.released.wait(PATIENCE_SECONDS)
        return self.answer


class Told:
    """An async check that returns or raises what it is told to."""

    def __init__(self, outcome: object = True) -> None:
        self.calls = 0
        self.outcome = outcome

    async def __call__(self) -> object:
        self.calls += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class ThreadedLoop:
    """An event loop that runs on a thread of its own for as long as the block."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self.loop.close()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(PATIENCE_SECONDS)

    def report(
        self, registry: HealthRegistry, *, deadline_seconds: float | None = None
    ) -> HealthReport:
        asking = registry.report(deadline_seconds=deadline_seconds)
        return asyncio.run_coroutine_threadsafe(asking, self.loop).result(PATIENCE_SECONDS)


async def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition()` is true."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it never happened"
        await asyncio.sleep(0.001)


def eventually_sync(condition: Callable[[], bool]) -> None:
    """Do as `eventually` where there is no loop."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it never happened"
        time.sleep(0.001)


def log_is_written() -> None:
    """Return as soon as the log has what was to be said to it."""
    eventually_sync(lambda: not readers._warnings.is_reading)


def row_of(report: HealthReport, name: str = "check") -> ComponentStatus:
    row = report.component(name)
    assert row is not None
    return row


def kind_of(report: HealthReport, name: str = "check") -> str | None:
    """Return the kind of failure of that row."""
    failure = row_of(report, name).failure
    return None if failure is None else failure.kind


def slot_of(registry: HealthRegistry, name: str = "check") -> Slot:
    return registry._engine.catalog.slots[name]


def waiting(registry: HealthRegistry, name: str = "check") -> int:
    """Return how many wait for the flight of that check that is under way."""
    flight = slot_of(registry, name).flight
    return 0 if flight is None else len(flight.waiting)


_SLOW = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)
"""What asyncio logs in its debug mode of a machine that has much to do."""


def run_script(source: str) -> subprocess.CompletedProcess[str]:
    """Run `source` in a Python of its own, with warnings as errors, and return how it ended."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return without_slowness(done)


def without_slowness(
    done: subprocess.CompletedProcess[str],
) -> subprocess.CompletedProcess[str]:
    """Leave out what says nothing but that the machine had much to do."""
    done.stderr = _SLOW.sub("", done.stderr)
    return done


def answer_of_script(source: str) -> str:
    """Run `source`, which must end well and quietly, and return what it printed."""
    done = run_script(source)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
