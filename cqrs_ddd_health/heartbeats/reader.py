"""How old the beats in a shared store are, whatever its clock and ours do.

A process publishes how old its beat is, and the store stamps when it took that. Clocks jump, so a
stamp alone may make a live worker dead or a dead one live. A reader that looks again and again
also knows when, by its own monotonic clock, it first saw each publish, and that bounds the age
from both sides:

- `first`, the age when published and the time since by the store's clock;
- `low`, that age and the time since this publish was first seen: it cannot be younger;
- `high`, that age and the time since the look before: it cannot be older, once a new publish was
  seen to take the place of an earlier one.

The age is `min(max(first, low), high)`. A beat that is new to us has only `first`, and a stamp from
the future makes that too young: it is not believed before a new publish was seen, and one whose
publisher has not published for two intervals is of a process that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from math import inf
from typing import NamedTuple, TypeAlias

from cqrs_ddd_health.protocols import BeatsRead

from .fleet import Fleet
from .rows import StoredColumns, columns_of

__all__ = ["BeatReader", "Looked"]

_Key: TypeAlias = "tuple[str, str, str]"

_MAX_INTERVAL_SECONDS = 30.0
"""Nobody is in doubt for longer than two of these, whatever interval it says."""


_Seen: TypeAlias = "tuple[int, float, float, bool]"
"""A publish number, when that publish was first seen, when the store was looked at before that, and
whether its stamp was in the future then. Without a look before, that was for ever ago, and nothing
bounds the age from above. A plain tuple: of these the garbage collector keeps no account."""


class Looked(NamedTuple):
    """What one look at the store brought."""

    beats: Fleet
    doubtful: int
    """How many beats more there are whose age cannot be told yet."""
    doubted: AbstractSet[str] = frozenset()
    """The workers of these."""


class BeatReader:
    """Remembers of each beat when it was seen to change. All times are our monotonic seconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew in a forked child, or after the store was exchanged."""
        self._columns = StoredColumns()
        self._seen: Sequence[_Seen] = ()
        self._may_doubt = False
        self._looked_at = -inf

    def take(self, read: BeatsRead, began: float, now: float, own_token: str) -> Looked:
        """Return the beats of other processes, as old as they are at `now`.

        `began` is when the store was asked, `now` when it had answered.
        """
        columns = _of_others(columns_of(read.beats), own_token)
        last: Iterable[_Seen | None] = self._seen
        # Mostly they are the same, in the same order. To tell that takes less than to look each up.
        if _names(columns) != _names(self._columns):
            columns = _once_each(columns)
            known = dict(zip(_keys(self._columns), self._seen, strict=True))
            last = map(known.get, _keys(columns))
        seen = [
            was
            if was is not None and was[0] == number
            else self._first_seen(number, now, was, is_ahead=stamp > read.server_now)
            for was, number, stamp in zip(last, columns.numbers, columns.stamps, strict=True)
        ]
        self._columns, self._seen, self._looked_at = columns, seen, began
        doubtful: Sequence[int] = ()
        if self._may_doubt:
            doubtful = [place for place, (_, _, _, is_doubtful) in enumerate(seen) if is_doubtful]
            self._may_doubt = bool(doubtful)
        return _looked(columns, seen, doubtful, read.server_now, now)

    def _first_seen(self, number: int, now: float, last: _Seen | None, *, is_ahead: bool) -> _Seen:
        if last is None:
            self._may_doubt = self._may_doubt or is_ahead
            return number, now, -inf, is_ahead
        return number, now, self._looked_at, False


def _names(columns: StoredColumns) -> tuple[Sequence[str], ...]:
    return columns.workers, columns.instances, columns.tokens


def _keys(columns: StoredColumns) -> Iterable[_Key]:
    return zip(*_names(columns), strict=True)


def _once_each(columns: StoredColumns) -> StoredColumns:
    """Leave out copies under other keys: the latest is what was published."""
    places: dict[_Key, int] = {}
    for place, key in enumerate(_keys(columns)):
        last = places.setdefault(key, place)
        if columns.stamps[last] < columns.stamps[place]:
            places[key] = place
    if len(places) == len(columns.stamps):
        return columns
    chosen = sorted(places.values())
    return StoredColumns._make([column[place] for place in chosen] for column in columns)


def _of_others(columns: StoredColumns, own_token: str) -> StoredColumns:
    """Leave out our own: of these we know better."""
    if own_token not in columns.tokens:
        return columns
    is_theirs = [token != own_token for token in columns.tokens]
    return StoredColumns._make(list(compress(column, is_theirs)) for column in columns)


def _looked(
    columns: StoredColumns,
    seen: Sequence[_Seen],
    doubtful: Sequence[int],
    server_now: float,
    now: float,
) -> Looked:
    """Return how old they are, but for those of which that cannot be told."""
    # `low` is never above `high`: the look at which a publish was first seen came after the other.
    ages = [
        age
        + (
            first
            if (low := now - at) <= (first := server_now - stamp) <= (high := now - before)
            else low
            if first < low
            else high
        )
        for age, stamp, (_, at, before, _) in zip(columns.ages, columns.stamps, seen, strict=True)
    ]
    untold: set[int] = set()
    for place in doubtful:
        elapsed, interval = now - seen[place][1], columns.intervals[place]
        if elapsed < 2 * min(interval, _MAX_INTERVAL_SECONDS):
            untold.add(place)
        else:
            past = max(columns.ages[place], columns.timeouts[place])
            ages[place] = past + interval + elapsed
    fleet = Fleet(
        workers=columns.workers,
        instances=columns.instances,
        ages=ages,
        timeouts=columns.timeouts,
        intervals=columns.intervals,
        phases=columns.phases,
        progress=columns.progress,
        local=[False] * len(ages),
        tokens=columns.tokens,
    )
    doubted = frozenset(columns.workers[place] for place in untold)
    if untold:
        fleet = fleet.picked(place for place in range(len(ages)) if place not in untold)
    return Looked(fleet, len(untold), doubted)
