"""What every shared store agrees on: which rows are beats, and which are of the long gone.

Whoever can write to the store can write anything. A row that no publisher could have written is
left out and counted, and never spoils the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from cqrs_ddd_health.errors import InvalidNameError
from cqrs_ddd_health.names import MAX_NAME_LENGTH, require_name
from cqrs_ddd_health.protocols import BeatsRead, StoredBeat
from cqrs_ddd_health.strict import MAX_COUNT

__all__ = [
    "KEPT_SECONDS",
    "KEPT_TIMEOUTS",
    "MAX_PRUNED",
    "PUBLISHES_PER_PRUNE",
    "beat_of",
    "key_of",
    "read_of",
]

KEPT_TIMEOUTS = 10
KEPT_SECONDS = 3_600.0
"""A row that was not published for ten of its timeouts and an hour is of a process that is gone.
It is removed, unless it is the one of its worker that was published last: an outage must not
vanish."""
MAX_PRUNED = 500
"""No more rows are removed at once: a publish has a deadline."""
PUBLISHES_PER_PRUNE = 50
"""The first publish of a process looks for such rows, and then one in so many."""

_MAX_SECONDS = 1e10
"""Three hundred years. A date so much earlier can still be told, and nobody waits for longer."""


def key_of(beat: StoredBeat) -> tuple[str, str, str]:
    """Return the key of a row, by which they are sorted: in any other order writers deadlock."""
    return beat.worker, beat.instance, beat.token


def read_of(server_now: float, rows: Iterable[Sequence[object]], left_out: int = 0) -> BeatsRead:
    """Return what was read: the rows that are beats, each key once, and how many are left out."""
    beats: dict[tuple[str, str, str], StoredBeat] = {}
    dropped = left_out
    for row in rows:
        beat = beat_of(row)
        if beat is None or beat[:3] in beats:
            dropped += 1
        else:
            beats[beat[:3]] = beat
    return BeatsRead(server_now, list(beats.values()), dropped)


def beat_of(row: Sequence[object]) -> StoredBeat | None:
    """Return the beat that a row is, its fields in the order of `StoredBeat`, or None.

    A stamp of None says that the machine was started anew since. When that beat was made cannot be
    told, but its process is gone: the stamp is such that it is stale by any clock from now on.
    """
    if len(row) != len(StoredBeat._fields):
        return None
    worker, instance, token, number, age, timeout, interval, phase, progress, stamp = row
    if not (_is_name(worker) and _is_name(instance) and _is_name(token) and _is_count(number)):
        return None
    if not (_is_seconds(age) and _is_finite(timeout) and _is_seconds(interval)):
        return None
    if not (_is_name_or_none(phase) and _is_count_or_none(progress)):
        return None
    patience = float(min(timeout, _MAX_SECONDS))
    if stamp is None:
        stamp = -patience - interval
    elif not _is_seconds(stamp):
        return None
    return StoredBeat(
        worker,
        instance,
        token,
        number,
        float(age),
        patience,
        float(interval),
        phase,
        progress,
        float(stamp),
    )


def _is_name(value: object) -> TypeGuard[str]:
    if type(value) is not str:
        return False
    # What can be printed has nothing in it that `require_name` refuses, and is quickly told.
    if value.isprintable() and 0 < len(value) <= MAX_NAME_LENGTH and not value.isspace():
        return True
    try:
        require_name(value, "beat")
    except InvalidNameError:
        return False
    return True


def _is_name_or_none(value: object) -> TypeGuard[str | None]:
    return value is None or _is_name(value)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_count_or_none(value: object) -> TypeGuard[int | None]:
    return value is None or _is_count(value)


def _is_seconds(value: object) -> TypeGuard[float]:
    return _is_finite(value) and value <= _MAX_SECONDS


def _is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number, not negative, that has an end; the type is told without a subclass:
    `True` is no number of seconds.
    """
    return (type(value) is float or type(value) is int) and 0 <= value <= sys.float_info.max
