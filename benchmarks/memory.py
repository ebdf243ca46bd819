"""What a registered check takes in memory, with its last row, and what a million runs leave."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable

import psutil

from cqrs_ddd_health import HealthRegistry

from .measure import Result, at_most, judged

__all__ = ["measure"]

SUBJECT = "memory"
CHECKS = 10_000
CHECKS_IN_A_REPORT = 100
FLIGHTS = 1_000_000
WARMING_FLIGHTS = 50_000

_TARGET = at_most(4.0)
_FLAT = at_most(1.05)


def measure(rounds: int) -> Iterable[Result]:  # noqa: ARG001 - allocations do not vary
    """Count what is allocated from an empty registry to one whose checks have been asked."""
    # The names and the checks are the user's, and there before anything is counted.
    checks = {f"check {number}": _new_check() for number in range(CHECKS)}
    registry = HealthRegistry()
    with asyncio.Runner() as runner:
        runner.run(_ask(registry))
        tracemalloc.start()
        try:
            before = _allocated()
            for name, check in checks.items():
                registry.register(name, check)
            registered = _allocated() - before
            runner.run(_ask(registry))
            asked = _allocated() - before
        finally:
            tracemalloc.stop()
    note = f"{registered / CHECKS / 1024:.2f} KiB of it when registered"
    what = f"a registered check with its last row, of {CHECKS:,}"
    yield judged(SUBJECT, what, [asked / CHECKS / 1024], "KiB", _TARGET, note=note)
    yield _after_many_flights()


def _after_many_flights() -> Result:
    """Run all checks of a registry again and again, and compare what the process holds."""
    registry = HealthRegistry()
    for number in range(CHECKS_IN_A_REPORT):
        registry.register(f"check {number}", _new_check())
    with asyncio.Runner() as runner:
        runner.run(_ask_often(registry, WARMING_FLIGHTS))
        before = _resident_bytes()
        runner.run(_ask_often(registry, FLIGHTS))
        after = _resident_bytes()
    note = f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after"
    what = f"resident memory after {FLIGHTS:,} flights / before"
    return judged(SUBJECT, what, [after / before], "", _FLAT, note=note)


async def _ask_often(registry: HealthRegistry, flights: int) -> None:
    for _ in range(flights // CHECKS_IN_A_REPORT):
        await registry.report()


def _resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def _new_check() -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return True

    return check


async def _ask(registry: HealthRegistry) -> None:
    report = await registry.report()
    assert report.status == "healthy"


def _allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
