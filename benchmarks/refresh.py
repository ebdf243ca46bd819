"""The background refresh: what a fleet is to its dependency, and what an answer costs meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, MutableMapping
from contextlib import AsyncExitStack

from cqrs_ddd_health import CheckOptions, HealthRegistry
from cqrs_ddd_health.engine.scheduler import Pace
from cqrs_ddd_health.web.asgi import HealthApp, health_app

from .measure import Result, async_timer, at_most, compared, judged, taking_turns

__all__ = ["measure"]

SUBJECT = "refresh"
PROCESSES = 10_000
VIRTUAL_SECONDS = 600
BINS_PER_SECOND = 10
REQUESTS_IN_A_TURN = 3_000
FEW, MANY = 5, 500

_STEADY = at_most(2.0)
_FLAT = at_most(3.0)


def measure(rounds: int) -> Iterable[Result]:
    """Let a fleet start at one moment in virtual time, and ask two registries that refresh."""
    yield _fleet(rounds)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        few, many = (runner.run(_refreshing(stack, checks)) for checks in (FEW, MANY))
        mine, other = taking_turns(
            async_timer(runner, lambda: _ask(many)),
            async_timer(runner, lambda: _ask(few)),
            rounds=rounds,
            calls=REQUESTS_IN_A_TURN,
        )
        runner.run(stack.aclose())
    yield compared(SUBJECT, f"/health/ready, {MANY} checks / {FEW} checks", mine, other, _FLAT)


def _fleet(rounds: int) -> Result:
    ratios = [_busiest(random.Random(seed)) for seed in range(rounds)]
    what = f"{PROCESSES:,} processes that start at once: busiest 100 ms / mean"
    return judged(SUBJECT, what, ratios, "", _STEADY, note=f"{VIRTUAL_SECONDS} s of virtual time")


def _busiest(chance: random.Random) -> float:
    """Return how many runs fall into the busiest 100 ms, to the mean, the very start included."""
    bins: Counter[int] = Counter()
    for _ in range(PROCESSES):
        pace = Pace(CheckOptions(), 0.0, chance.random)
        while (at := pace.due_at(down=False)) < VIRTUAL_SECONDS:
            bins[int(at * BINS_PER_SECOND)] += 1
            pace.start(at)
    return max(bins.values()) / (bins.total() / (VIRTUAL_SECONDS * BINS_PER_SECOND))


async def _refreshing(stack: AsyncExitStack, checks: int) -> HealthApp:
    registry = HealthRegistry()
    for number in range(checks):
        registry.register(f"check {number}", _check)
    await stack.enter_async_context(registry.running())
    await registry.report()  # each has an outcome
    return health_app(registry)


async def _check() -> bool:
    await asyncio.sleep(0)
    return True


async def _ask(app: HealthApp) -> None:
    async def receive() -> MutableMapping[str, object]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, object]) -> None:
        pass

    await app({"type": "http", "method": "GET", "path": "/health/ready"}, receive, send)
