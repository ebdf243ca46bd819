"""`report()` over many checks, against what one would write by hand: gather, a timeout each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable

from cqrs_ddd_health import HealthRegistry

from .measure import Result, Target, async_timer, at_most, compared, taking_turns

__all__ = ["measure"]

SUBJECT = "report"
CHECKS_IN_A_TURN = 4_000

_TRIVIAL_TARGET = at_most(0.6 if sys.version_info >= (3, 12) else 0.8)
_SUSPENDING_TARGET = at_most(1.1)


def measure(rounds: int) -> Iterable[Result]:
    """Compare them for checks that answer at once and for checks that wait once."""
    for count in (100, 1_000):
        yield _compare("trivial", _trivial, count, rounds, _TRIVIAL_TARGET)
    for count in (100, 1_000):
        yield _compare("suspending once", _suspending, count, rounds, _SUSPENDING_TARGET)


async def _trivial() -> bool:
    return True


async def _suspending() -> bool:
    await asyncio.sleep(0)
    return True


def _compare(
    kind: str, check: Callable[[], Awaitable[bool]], count: int, rounds: int, target: Target
) -> Result:
    registry = HealthRegistry()
    for number in range(count):
        registry.register(f"check {number}", check)

    async def ours() -> None:
        report = await registry.report()
        assert report.status == "healthy"
        assert len(report.components) == count

    async def theirs() -> None:
        answers = await asyncio.gather(*(_within_five_seconds(check) for _ in range(count)))
        assert all(answers)

    with asyncio.Runner() as runner:
        mine, other = taking_turns(
            async_timer(runner, ours),
            async_timer(runner, theirs),
            rounds=rounds,
            calls=CHECKS_IN_A_TURN // count,
        )
    return compared(SUBJECT, f"{count:,} checks, {kind}", mine, other, target, each=count)


async def _within_five_seconds(check: Callable[[], Awaitable[bool]]) -> bool:
    async with asyncio.timeout(5):
        return await check()
