"""The beats of many processes by column: of ten thousand, few are looked at one by one.

An object for each would cost more than all that is told of them, and the garbage collector would
walk over them again and again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from operator import not_
from typing import NamedTuple

from cqrs_ddd_health.domain.evaluation import Beat, LeftOut, Seen, is_fresh

__all__ = ["Fleet", "FleetNow", "Others", "Roster"]


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

    def of(self, workers: Collection[str]) -> Fleet:
        """Return those of some workers."""
        if not workers:
            return Fleet()
        return self.picked(place for place, worker in enumerate(self.workers) if worker in workers)

    def most_wanted(self, most: int, expected: Collection[str]) -> Fleet:
        """Return no more than so many: first what is fresh, then what is expected, then the rest.

        Of equals the youngest ones.
        """
        if len(self.ages) <= most:
            return self
        expected = frozenset(expected)
        keys = list(
            zip(
                map(not_, self.freshness()),
                [worker not in expected for worker in self.workers],
                self.ages,
                strict=True,
            )
        )
        return self.picked(sorted(range(len(keys)), key=keys.__getitem__)[:most])

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


class Others(NamedTuple):
    """What was read of other processes."""

    beats: Fleet = Fleet()
    elapsed: float = 0.0
    """How many seconds ago they were as old as they say."""
    left_out: LeftOut = "nobody"
    """Of whom there are more that were not read."""
    doubted: AbstractSet[str] = frozenset()
    """The workers with beats whose age cannot be told yet."""
    silent: AbstractSet[str] = frozenset()
    """The workers that may only seem dead: nothing new has come from anybody since."""

    def left_out_of(self, worker: str) -> LeftOut:
        """Return of whom there may be more beats of one worker."""
        return "the living" if worker in self.doubted else self.left_out


class Roster(NamedTuple):
    """Who is there. It changes rarely, and takes as long to tell as how they are."""

    workers: Sequence[str] = ()
    instances: Sequence[str] = ()
    places: Mapping[str, Sequence[int]] = {}
    """Where the beats of each worker are."""
    repeated: AbstractSet[str] = frozenset()
    """The workers of which two beats have the name of one instance."""

    def of(self, fleet: Fleet) -> Roster:
        """Return that of a fleet: the same, if it is of the same beats."""
        workers, instances = fleet.workers, fleet.instances
        if workers == self.workers and instances == self.instances:
            return self
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, worker in enumerate(workers):
            places[worker].append(place)
        repeated = {
            worker
            for worker, theirs in places.items()
            if len({instances[place] for place in theirs}) < len(theirs)
        }
        return Roster(workers, instances, dict(places), repeated)


_NOBODY = Roster()


class FleetNow(NamedTuple):
    """Beats as they are now, and what is told of all of them at once."""

    fleet: Fleet
    roster: Roster
    fresh: Sequence[bool]
    here: Mapping[str, int]
    """The workers that beat in this process, and how many of their beats here are fresh."""

    @classmethod
    def of(
        cls, others: Fleet, elapsed: float, own: Sequence[Beat], roster: Roster = _NOBODY
    ) -> FleetNow:
        """Return what others did so many seconds ago, and beats of our own, which are of now.

        `roster` is who was there before.
        """
        fleet = others.older(elapsed).joined(own)
        here: Counter[str] = Counter()
        for beat in own:
            if beat.local:
                here[beat.worker] += is_fresh(beat)
        return cls(fleet, roster.of(fleet), fleet.freshness(), here)

    def living(self) -> AbstractSet[str]:
        """Return the workers of which some beat is fresh."""
        return set(compress(self.fleet.workers, self.fresh))

    def youngest(self, worker: str) -> float:
        """Return how old the youngest beat of a worker is that has one."""
        return min(map(self.fleet.ages.__getitem__, self.roster.places[worker]))

    def seen(self, worker: str, stalled: Collection[int]) -> Seen:
        """Return what is to be told of one worker."""
        fleet, fresh = self.fleet, self.fresh
        places = self.roster.places.get(worker, ())
        living = list(compress(places, map(fresh.__getitem__, places)))
        stale = (place for place in places if not fresh[place])
        late = min(stale, key=fleet.ages.__getitem__, default=None)
        return Seen(
            instances=len(places),
            fresh=len(living),
            here=self.here.get(worker, 0),
            doubles=_doubles(fleet, living) if worker in self.roster.repeated else (),
            stuck=sorted({fleet.instances[place] for place in stalled if fresh[place]}),
            late=None if late is None else fleet.beat(late),
        )


def _doubles(fleet: Fleet, living: Sequence[int]) -> Sequence[str]:
    """Return the instance names under which more than one process lives."""
    processes = {(fleet.instances[place], fleet.tokens[place]) for place in living}
    lives = Counter(name for name, _ in processes)
    return sorted(name for name, count in lives.items() if count > 1)
