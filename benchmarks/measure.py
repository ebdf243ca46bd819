"""How things are compared: in turns within one run, as a ratio per round.

A machine that is slow for a while is slow for both sides of a round, so the ratio of a round means
something where its seconds do not.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import NamedTuple, TypeAlias

__all__ = [
    "Result",
    "Spread",
    "Target",
    "Timer",
    "after",
    "async_timer",
    "at_least",
    "at_most",
    "compared",
    "judged",
    "seconds_of",
    "sync_timer",
    "taking_turns",
]

Timer: TypeAlias = "Callable[[int], float]"
"""Does something so many times and returns the seconds that it took."""

TURNS_IN_A_ROUND = 4


class Target(NamedTuple):
    """What was promised of a figure."""

    limit: float
    is_least: bool

    def is_met_by(self, value: float) -> bool:
        """Whether the value is on the right side of the limit."""
        return value >= self.limit if self.is_least else value <= self.limit


def at_most(limit: float) -> Target:
    """Return the target of a cost."""
    return Target(limit, is_least=False)


def at_least(limit: float) -> Target:
    """Return the target of a throughput."""
    return Target(limit, is_least=True)


class Spread(NamedTuple):
    """The middle of all rounds, and the quarters below and above which the others lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of the rounds' values, however few."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Result:
    """One line of the table: a figure, its target if it has one, and what it was made of."""

    subject: str
    what: str
    spread: Spread
    unit: str
    target: Target | None
    note: str
    raw: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def is_met(self) -> bool:
        """Whether the median keeps the target; what has none cannot miss it."""
        return self.target is None or self.target.is_met_by(self.spread.median)


def taking_turns(
    ours: Timer, theirs: Timer, *, rounds: int, calls: int
) -> tuple[list[float], list[float]]:
    """Return the seconds per call of both sides, round by round, after one round for warming up."""
    measured = [_round(ours, theirs, calls) for _ in range(rounds + 1)][1:]
    return [mine for mine, _ in measured], [other for _, other in measured]


def _round(ours: Timer, theirs: Timer, calls: int) -> tuple[float, float]:
    gc.collect()
    mine = other = 0.0
    for turn in range(TURNS_IN_A_ROUND):
        if turn % 2:
            other += theirs(calls)
            mine += ours(calls)
        else:
            mine += ours(calls)
            other += theirs(calls)
    done = calls * TURNS_IN_A_ROUND
    return mine / done, other / done


def compared(
    subject: str,
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: Target | None,
    *,
    each: int = 1,
    is_throughput: bool = False,
) -> Result:
    """Return the ratio of two sides' costs, or of their throughputs.

    `each` is how many things one call does, for the seconds beside the ratio.
    """
    pairs = zip(ours, theirs, strict=True)
    ratios = [other / mine if is_throughput else mine / other for mine, other in pairs]
    note = f"{seconds_of(median(ours) / each)} against {seconds_of(median(theirs) / each)}"
    raw = {"ours_seconds": list(ours), "theirs_seconds": list(theirs), "ratios": ratios}
    return Result(subject, what, Spread.of(ratios), "", target, note, raw)


def judged(
    subject: str,
    what: str,
    values: Sequence[float],
    unit: str,
    target: Target | None = None,
    *,
    note: str = "",
) -> Result:
    """Return a figure that is compared with nothing but its target."""
    return Result(subject, what, Spread.of(values), unit, target, note, {"values": list(values)})


def seconds_of(seconds: float) -> str:
    """Return a duration in the unit that suits its size."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def sync_timer(call: Callable[[], object]) -> Timer:
    """Return a timer of a function. For calls that take long beside the loop around them."""

    def timed(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - began

    return timed


def after(act: Callable[[], object], timer: Timer) -> Timer:
    """Return a timer that has something done first, which does not count."""

    def timed(calls: int) -> float:
        act()
        return timer(calls)

    return timed


def async_timer(runner: asyncio.Runner, call: Callable[[], Awaitable[object]]) -> Timer:
    """Return a timer of an async function, run on the loop of `runner`."""

    async def timed(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await call()
        return time.perf_counter() - began

    return lambda calls: runner.run(timed(calls))
