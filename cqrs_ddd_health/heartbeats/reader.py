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

All of that holds only if what is read is what is published. A copy that is cut off, or a server
that others have left, answers too, and nothing ever changes there. So a beat that has grown old for
lack of a publish counts as old only if the reader has heard of something since that publish was
due: of another process, or, as the store itself says, of what is published at all. After a gap, in
which nothing could be read or written, each publisher has its chance first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from math import inf
from typing import NamedTuple, TypeAlias

from cqrs_ddd_health.domain.protocols import BeatsRead

from .beat_table import Fleet
from .stores.rows import StoredColumns, columns_of

__all__ = ["BeatReader", "Looked"]

CHANCE_SECONDS = 5.0
"""How long a publisher has after a gap, beside its interval: as long as a publish may take."""

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


class _Held(NamedTuple):
    """What tells whether a store holds the same as at the look before, our own beats too."""

    tokens: Sequence[str] = ()
    total: int = 0
    """Of all publish numbers."""
    newest: float = -inf
    """The latest stamp."""
    server_now: float = 0.0
    now: float = -inf
    since: float = -inf
    """Since when nothing else was held."""
    is_first: bool = True
    """Whether there was no look before."""


def _held(before: _Held, columns: StoredColumns, server_now: float, now: float) -> _Held:
    """Return what is held now. In what order rows come says nothing."""
    tokens, newest = columns.tokens, max(columns.stamps, default=-inf)
    is_first = before.now == -inf
    held = _Held(tokens, sum(columns.numbers), newest, server_now, now, now, is_first)
    is_same = len(tokens) == len(before.tokens) and held[1:3] == before[1:3]
    return held._replace(since=before.since) if is_same and not is_first else held


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
        self._held = _Held()
        self._heard_until = -inf
        """Until when all that was published has come, as far as the store could say."""
        self._gap_since = self._trusted_since = -inf
        """Between these what was read may not have been what was published."""

    @property
    def unchanged_seconds(self) -> float:
        """For how long the store has held the same."""
        return self._held.now - self._held.since

    @property
    def is_still(self) -> bool:
        """Whether the store has held the same for longer than some publisher should let it."""
        shortest = min(self._columns.intervals, default=inf)
        return self.unchanged_seconds > 2 * shortest

    def distrust(self) -> None:
        """Heed that the store could not be read."""
        self._distrust(self._held.now)

    def _distrust(self, since: float) -> None:
        if self._trusted_since != inf:
            self._gap_since, self._trusted_since = since, inf

    def _trust(self) -> None:
        if self._trusted_since == inf:
            self._trusted_since = self._held.now

    def take(self, read: BeatsRead, began: float, now: float, own_token: str) -> Looked:
        """Return the beats of other processes, as old as they are at `now`.

        `began` is when the store was asked, `now` when it had answered.
        """
        everything = columns_of(read.beats)
        self._held = held = _held(self._held, everything, read.server_now, now)
        if held.since == held.now:
            self._trust()
        columns = _of_others(everything, own_token)
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

    def suspects(self) -> frozenset[str]:
        """Return the workers that seem to publish no more, and may if the store is cut off."""
        return self._silent(inf)

    def silent(self, behind_seconds: float | None) -> frozenset[str]:
        """Return those of which that is so by what the store says of itself.

        If it cannot say anything, it is believed of one process that it ended, and not of several
        that they did so at once.
        """
        if behind_seconds is None:
            behind_seconds = inf if len(set(self._held.tokens)) > 1 else 0.0
        if behind_seconds == inf and self._held.since < self._held.now:
            self._distrust(self._held.since)
        else:
            self._trust()
        self._heard_until = max(self._heard_until, self._held.now - behind_seconds)
        return self._silent(behind_seconds)

    def _silent(self, behind_seconds: float) -> frozenset[str]:
        held, trusted_since = self._held, self._trusted_since
        if held.since == held.now and trusted_since == -inf and not held.is_first:
            return frozenset()
        heard = max(-inf if held.is_first else held.since, self._heard_until)
        heard_stamp = max(held.newest, held.server_now - behind_seconds)
        return frozenset(
            worker
            for worker, interval, stamp, at in self._late()
            if (
                # Its next publish was due in the gap or after it, and it has not had its chance.
                self._gap_since - 2 * interval <= at <= trusted_since
                and held.now < trusted_since + interval + CHANCE_SECONDS
            )
            or (
                behind_seconds
                and heard <= at + 2 * interval
                and heard_stamp <= stamp + 2 * interval
            )
        )

    def _late(self) -> Iterable[tuple[str, float, float, float]]:
        """Return those that grew old for lack of a publish, and when the last one was seen."""
        held, columns = self._held, self._columns
        rows = zip(
            *(columns.workers, columns.ages, columns.timeouts, columns.intervals, columns.stamps),
            self._seen,
            strict=True,
        )
        return (
            (worker, min(interval, _MAX_INTERVAL_SECONDS), stamp, at)
            for worker, age, timeout, interval, stamp, (_, at, _, _) in rows
            if age <= timeout + interval < age + max(held.now - at, held.server_now - stamp)
        )

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
