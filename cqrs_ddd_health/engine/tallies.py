"""Counts what the runs of each check brought: how long they took, and how they failed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from cqrs_ddd_health.domain.models import FailureKind

__all__ = ["BOUNDS", "Runs", "Tally"]

BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0)
"""Up to how many seconds, inclusive, a run counts among those of one group; there is one more for
whatever took longer. The last is the timeout if nothing else was said: what is beyond was cut off.
"""
_FIRST = BOUNDS[0]


class Runs(NamedTuple):
    """The runs of one check so far, in this process."""

    by_duration: tuple[int, ...]
    """How many took so long, by `BOUNDS`, and in the last place how many took longer."""
    seconds: float
    """How long they took together."""
    failures: Mapping[FailureKind, int]
    """How often it was not up, by the kind of the failure; what never happened is not there.
    A run that hangs fails again each time that one more run could have failed."""


class Tally:
    """The counters of one check. Whoever adds holds the runner's lock, and so does who reads."""

    __slots__ = ("_by_duration", "_failures", "_seconds")

    def __init__(self) -> None:
        self._by_duration = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._failures: dict[FailureKind, int] = {}

    def add(self, seconds: float, kind: FailureKind | None) -> None:
        """Count one outcome: of a run that took so long, and failed so if it did."""
        if kind is not None:
            self._failures[kind] = self._failures.get(kind, 0) + 1
            if kind == "hung":
                return  # the run that it is of was counted when it was cut off
        # Most take no longer than the first bound: looking for it would cost as much as the rest.
        self._by_duration[0 if seconds <= _FIRST else bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def read(self) -> Runs:
        """Return what was counted so far."""
        return Runs(tuple(self._by_duration), self._seconds, self._failures.copy())
