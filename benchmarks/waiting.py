"""Ten checks of half a second each: do they wait side by side, and does the loop stay free?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from cqrs_ddd_health import HealthRegistry

from .measure import Result, at_most, judged

__all__ = ["measure"]

SUBJECT = "waiting"
CHECKS = 10
CHECK_SECONDS = 0.5
TICK_SECONDS = 0.002

_TARGET = at_most(25.0)


def measure(rounds: int) -> Iterable[Result]:
    """Measure what is on top of the slowest check, and how late the loop is meanwhile."""
    with asyncio.Runner() as runner:
        asked = {
            "async": _registry(_async_check).report,
            "sync, on threads": _registry(_sync_check).report,
        }
        extra: dict[str, list[float]] = {kind: [] for kind in asked}
        lags: dict[str, list[float]] = {kind: [] for kind in (*asked, "idle")}
        for _ in range(rounds):
            for kind, report in asked.items():
                seconds, lag = runner.run(_with_lag(report))
                extra[kind].append((seconds - CHECK_SECONDS) * 1e3)
                lags[kind].append(lag * 1e3)
            lags["idle"].append(runner.run(_with_lag(_idle))[1] * 1e3)
    for kind, values in extra.items():
        yield judged(SUBJECT, f"{CHECKS} checks of 500 ms, {kind}: on top", values, "ms", _TARGET)
    for kind, values in lags.items():
        what = "an idle loop" if kind == "idle" else f"the loop, checks {kind}"
        yield judged(SUBJECT, f"latest tick of {what}", values, "ms")


def _registry(check: Callable[[], object]) -> HealthRegistry:
    registry = HealthRegistry()
    for number in range(CHECKS):
        registry.register(f"check {number}", check)
    return registry


async def _async_check() -> bool:
    await asyncio.sleep(CHECK_SECONDS)
    return True


def _sync_check() -> bool:
    time.sleep(CHECK_SECONDS)
    return True


async def _idle() -> None:
    await asyncio.sleep(CHECK_SECONDS)


async def _with_lag(call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return how long the call took, and how late the latest tick of a ticker was meanwhile."""
    lags: list[float] = []
    ticker = asyncio.create_task(_tick(lags))
    await asyncio.sleep(0)
    began = time.perf_counter()
    await call()
    seconds = time.perf_counter() - began
    ticker.cancel()
    return seconds, max(lags)


async def _tick(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        lags.append(time.perf_counter() - due)
