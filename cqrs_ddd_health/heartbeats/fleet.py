"""The beats of many processes by column: of ten thousand, few are looked at one by one.

An object for each would cost more than all that is told of them, and the garbage collector would
walk over them again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from typing import NamedTuple

from cqrs_ddd_health.evaluation import Beat, Seen

__all__ = ["Fleet", "seen_of"]


class Fleet(NamedTuple):
    """The fields of `Beat`, a column each, of equal length. A place is an index into them."""

    workers: Sequence[str] = ()
    instances: Sequence[str] = ()
    ages: Sequence[float] = ()
    timeouts: Sequence[float] = ()
    intervals: Sequence[float] = ()
    phases: Sequence[str | None] = ()
    progress: Sequence[int | None] = ()
    local: Sequence[bool] = ()
    tokens: Sequence[str] = ()

    def beat(self, place: int) -> Beat:
        """Return one of them."""
        return Beat._make(column[place] for column in self)

    def picked(self, places: Iterable[int]) -> Fleet:
        """Return some of them, in that order."""
        chosen = list(places)
        return Fleet._make([column[place] for place in chosen] for column in self)

    def joined(self, beats: Sequence[Beat]) -> Fleet:
        """Return these and some more."""
        if not beats:
            return self
        columns = zip(self, zip(*beats, strict=True), strict=True)
        return Fleet._make([*column, *more] for column, more in columns)

    def freshness(self) -> list[bool]:
        """Return `is_fresh` of each."""
        columns = zip(self.ages, self.timeouts, self.intervals, strict=True)
        return [timeout > 0 and age <= timeout + interval for age, timeout, interval in columns]

    def older(self, seconds: float) -> Fleet:
        """Return them as old as they are after so many seconds, in which nobody looked.

        One that was fresh stays so: it may have beaten meanwhile.
        """
        columns = zip(self.ages, self.timeouts, self.intervals, strict=True)
        ages = [
            age + seconds
            if age + seconds <= (limit := timeout + interval) or age > limit or not timeout
            else limit
            for age, timeout, interval in columns
        ]
        return self._replace(ages=ages)


def seen_of(
    fleet: Fleet, places: Sequence[int], fresh: Sequence[bool], stalled: Collection[int]
) -> Seen:
    """Return what is to be told of one worker, which has these places."""
    living = list(compress(places, map(fresh.__getitem__, places)))
    stale = (place for place in places if not fresh[place])
    late = min(stale, key=fleet.ages.__getitem__, default=None)
    return Seen(
        instances=len(places),
        fresh=len(living),
        here=sum(map(fleet.local.__getitem__, living)),
        doubles=_doubles(fleet, living),
        stuck=sorted({fleet.instances[place] for place in stalled if fresh[place]}),
        late=None if late is None else fleet.beat(late),
    )


def _doubles(fleet: Fleet, living: Sequence[int]) -> Sequence[str]:
    """Return the instance names under which more than one process lives."""
    names = {fleet.instances[place] for place in living}
    if len(names) == len(living):
        return ()
    processes = {(fleet.instances[place], fleet.tokens[place]) for place in living}
    lives = Counter(name for name, _ in processes)
    return sorted(name for name, count in lives.items() if count > 1)
