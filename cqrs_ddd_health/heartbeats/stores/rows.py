"""What every shared store agrees on: which rows are beats, and which are of the long gone.

Whoever can write to the store can write anything. A row that no publisher could have written is
left out and counted, and never spoils the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import inf, isfinite
from typing import Any, NamedTuple, cast, overload

from cqrs_ddd_health.domain.fields import MAX_COUNT
from cqrs_ddd_health.domain.names import MAX_NAME_LENGTH, require_name
from cqrs_ddd_health.domain.protocols import BeatsRead, StoredBeat
from cqrs_ddd_health.errors import InvalidNameError

__all__ = [
    "KEPT_SECONDS",
    "KEPT_TIMEOUTS",
    "LATELY_SECONDS",
    "MAX_BYTES",
    "MAX_PRUNED",
    "MAX_SECONDS",
    "PUBLISHES_PER_PRUNE",
    "ColumnsReader",
    "StoredColumns",
    "columns_of",
    "columns_of_rows",
    "key_of",
    "read_of",
    "strings_of",
]

KEPT_TIMEOUTS = 10
KEPT_SECONDS = 3_600.0
"""A row that was not published for ten of its timeouts and an hour is of a process that is gone.
It is removed, unless it is the one of its worker that was published last: an outage must not
vanish."""
MAX_PRUNED = 500
"""No more rows are removed at once: a publish has a deadline."""
LATELY_SECONDS = 15.0
"""Who lives has published within this time, whatever its timeout: it does every 5 s."""
MAX_BYTES = 16 * 2**20
"""No more of what rows say is read at once; a beat is of some hundred bytes."""
PUBLISHES_PER_PRUNE = 50
"""The first publish of a process looks for such rows, and then one in so many."""
_ROWS_AT_A_TIME = 500

_NONE = type(None)
# The very types: `True` is no number. Each field that may be None is so or not.
_TYPES = frozenset(
    product(
        *((str,), (str,), (str,), (int,), (float,), (float,), (float,)),
        *((str, _NONE), (int, _NONE), (float, _NONE)),
    )
)
MAX_SECONDS = 1e10
"""Three hundred years. A date so much earlier can still be told, and nobody waits for longer."""


class StoredColumns(NamedTuple):
    """The fields of `StoredBeat`, a column each, of equal length."""

    workers: Sequence[str] = ()
    instances: Sequence[str] = ()
    tokens: Sequence[str] = ()
    numbers: Sequence[int] = ()
    ages: Sequence[float] = ()
    timeouts: Sequence[float] = ()
    intervals: Sequence[float] = ()
    phases: Sequence[str | None] = ()
    progress: Sequence[int | None] = ()
    stamps: Sequence[float] = ()


class _Beats(Sequence[StoredBeat]):
    """Beats that are made of their columns when somebody looks at them."""

    def __init__(self, columns: StoredColumns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns.workers)

    def __iter__(self) -> Iterator[StoredBeat]:
        return map(StoredBeat._make, zip(*self.columns, strict=True))

    @overload
    def __getitem__(self, place: int) -> StoredBeat: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[StoredBeat]: ...
    def __getitem__(self, place: int | slice) -> StoredBeat | Sequence[StoredBeat]:
        return [*self][place]


def columns_of(beats: Sequence[StoredBeat]) -> StoredColumns:
    """Return the columns of some beats."""
    if isinstance(beats, _Beats):
        return beats.columns
    return StoredColumns._make(zip(*beats, strict=True)) if beats else StoredColumns()


def key_of(beat: StoredBeat) -> tuple[str, str, str]:
    """Return the key of a row, by which they are sorted: in any other order writers deadlock."""
    return beat.worker, beat.instance, beat.token


def read_of(server_now: float, rows: Sequence[Sequence[object]], left_out: int = 0) -> BeatsRead:
    """Return what was read: the rows that are beats, and how many are left out.

    The fields of a row are in the order of `StoredBeat`. A stamp of None says that the machine was
    started anew since. When that beat was made cannot be told, but its process is gone: it gets a
    stamp that makes it stale at any time from now on.
    """
    names: set[str] = set()
    found = (_beat_of(row) for row in rows)
    beats = [
        beat for beat in found if beat is not None and _are_names((*beat[:3], beat.phase), names)
    ]
    return BeatsRead(server_now, beats, left_out + len(rows) - len(beats))


class ColumnsReader:
    """Does the same of columns, in a fraction of the time.

    Ten thousand rows at once are mostly all beats, and that is told by the column. Who is there
    changes rarely: a column of texts that was there at the last read is known to be right, and
    the very same again, which whoever reads on tells at once.
    """

    def __init__(self) -> None:
        self._last: Sequence[Sequence[Any]] = StoredColumns()

    def read_of(
        self, server_now: float, columns: Sequence[Sequence[object]], left_out: int = 0
    ) -> BeatsRead:
        """Return what was read, of columns of equal length."""
        if not columns[0]:
            return BeatsRead(server_now, [], left_out)
        found: list[Sequence[Any]] = []
        for column, last, (is_one, may_be_known) in zip(columns, self._last, _COLUMNS, strict=True):
            if may_be_known and column == last:
                found.append(last)
            elif is_one(column):
                found.append(column)
            else:
                return read_of(server_now, list(zip(*columns, strict=True)), left_out)
        self._last = found
        return BeatsRead(server_now, _Beats(StoredColumns._make(found)), left_out)


def columns_of_rows(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    """Return the columns of rows of that width.

    Some hundred rows at a time: to go through all of them at once takes an iterator for each, for
    which the garbage collector runs again and again.
    """
    columns: list[list[object]] = [[] for _ in range(width)]
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        some = zip(*rows[first : first + _ROWS_AT_A_TIME], strict=True)
        for column, more in zip(columns, some, strict=True):
            column.extend(more)
    return columns


def strings_of(column: Sequence[object]) -> list[object]:
    """Return a column with strings in place of bytes; what is not UTF-8 is no name then."""
    return [
        value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
        for value in column
    ]


def _are_all_names(column: Sequence[object]) -> bool:
    return set(map(type, column)) == {str} and _name_something(cast("Sequence[str]", column))


def _are_names_or_none(column: Sequence[object]) -> bool:
    said = [value for value in column if value is not None]
    return not said or _are_all_names(said)


def _name_something(texts: Sequence[str]) -> bool:
    names = set(texts)
    joined = "".join(names)
    return (
        joined.isprintable()
        and max(map(len, names)) <= MAX_NAME_LENGTH
        and "" not in names
        and (" " not in joined or not any(map(str.isspace, names)))
    )


def _are_counts(column: Sequence[object]) -> bool:
    numbers = cast("Sequence[int]", column)
    return set(map(type, column)) == {int} and 0 <= min(numbers) <= max(numbers) <= MAX_COUNT


def _are_counts_or_none(column: Sequence[object]) -> bool:
    said = [value for value in column if value is not None]
    return not said or _are_counts(said)


def _are_seconds(column: Sequence[object]) -> bool:
    return _are_within(0.0, column)


def _are_stamps(column: Sequence[object]) -> bool:
    return _are_within(-MAX_SECONDS, column)


def _are_within(least: float, column: Sequence[object]) -> bool:
    numbers = cast("Sequence[float]", column)
    return (
        set(map(type, column)) == {float}
        and least <= min(numbers)
        and max(numbers) <= MAX_SECONDS
        and isfinite(sum(numbers))  # with a NaN among them the others say nothing
    )


# Whether a column is one, and whether another that equals it is one too: `True` equals 1.
_COLUMNS = (
    *((_are_all_names, True), (_are_all_names, True), (_are_all_names, True)),
    *((_are_counts, False), (_are_seconds, False), (_are_seconds, False), (_are_seconds, False)),
    *((_are_names_or_none, True), (_are_counts_or_none, False), (_are_stamps, False)),
)


def _beat_of(row: Sequence[object]) -> StoredBeat | None:
    """Return the beat that a row is, but for its names, or None."""
    if tuple(map(type, row)) not in _TYPES:
        return None
    beat = StoredBeat._make(row)
    _, _, _, number, age, timeout, interval, _, progress, stamp = beat
    if not (0 <= number <= MAX_COUNT and (progress is None or 0 <= progress <= MAX_COUNT)):
        return None
    # Of NaN none of this is true.
    if not (0 <= age <= MAX_SECONDS and 0 <= interval <= MAX_SECONDS and 0 <= timeout < inf):
        return None
    if timeout > MAX_SECONDS:
        beat = beat._replace(timeout_seconds=MAX_SECONDS)
    if cast("float | None", stamp) is None:
        return beat._replace(stamp=-beat.timeout_seconds - interval)
    return beat if -MAX_SECONDS <= stamp <= MAX_SECONDS else None


def _are_names(texts: Iterable[str | None], known: set[str]) -> bool:
    """Whether they may all name something, if they are there; `known` have been found to."""
    for text in texts:
        if text is not None and text not in known:
            if not _is_name(text):
                return False
            known.add(text)
    return True


def _is_name(text: str) -> bool:
    try:
        require_name(text, "beat")
    except InvalidNameError:
        return False
    return True
