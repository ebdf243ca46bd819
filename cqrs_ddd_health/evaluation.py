"""The pure rules of health: from outcomes to states. Time is always an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from .details import EMPTY, Details
from .models import ComponentState, Failure, FailureKind, severity
from .options import CheckOptions

__all__ = [
    "SUCCESS",
    "Beat",
    "CheckState",
    "Outcome",
    "aged",
    "fresh_and_stale",
    "is_fresh",
    "next_state",
    "worker_outcome",
    "worst",
    "youngest_stale",
]


MAX_NAMED = 10
"""How many instances one row names."""


class Outcome(NamedTuple):
    """What one run of a check brought, or one look at a worker. No exception object is kept."""

    state: ComponentState
    kind: FailureKind | None = None
    exception_type: str | None = None
    message: str | None = None
    details: Details = EMPTY
    failing_since: datetime | None = None
    """Since when it fails in this way, where more is known than when it was first seen to."""


SUCCESS = Outcome("up")


@dataclass(frozen=True, slots=True)
class CheckState:
    """Where a component stands after all its outcomes so far."""

    state: ComponentState
    since: datetime
    failure: Failure | None = None
    failures: int = 0
    successes: int = 0


def next_state(
    previous: CheckState | None,
    outcome: Outcome,
    options: CheckOptions,
    at: datetime,
    *,
    counts: bool = True,
) -> CheckState:
    """Return the state after `outcome`; the same object if nothing but time has changed.

    A failed run makes a component degraded until `failure_threshold` of them in a row take it
    down, and it stays down until `success_threshold` runs in a row were no failures. An outcome
    that does not count (a hung run seen once more) changes the reason, not the number.
    """
    if previous is not None and previous.state == outcome.state == "up":
        return previous
    if outcome.state == "down":
        return _failed(previous, outcome, options, at, counts=counts)
    if previous is not None and previous.state == "down":
        successes = previous.successes + 1
        if successes < options.success_threshold:
            return CheckState("down", previous.since, previous.failure, 0, successes)
    return _moved(previous, outcome.state, at, _failure(previous, outcome, at))


def _failed(
    previous: CheckState | None,
    outcome: Outcome,
    options: CheckOptions,
    at: datetime,
    *,
    counts: bool,
) -> CheckState:
    failures = (previous.failures if previous else 0) + counts
    was_down = previous is not None and previous.state == "down"
    down = was_down or failures >= options.failure_threshold
    failure = _failure(previous, outcome, at)
    return _moved(previous, "down" if down else "degraded", at, failure, failures)


def _moved(
    previous: CheckState | None,
    state: ComponentState,
    at: datetime,
    failure: Failure | None,
    failures: int = 0,
) -> CheckState:
    since = previous.since if previous is not None and previous.state == state else at
    return CheckState(state, since, failure, failures)


def _failure(previous: CheckState | None, outcome: Outcome, at: datetime) -> Failure | None:
    if outcome.kind is None:
        return None
    last = previous.failure if previous else None
    same = last is not None and (last.kind, last.exception_type) == (
        outcome.kind,
        outcome.exception_type,
    )
    return Failure(
        kind=outcome.kind,
        exception_type=outcome.exception_type,
        message=outcome.message,
        since=last.since if same and last is not None else outcome.failing_since or at,
    )


def worst(states: Sequence[ComponentState]) -> ComponentState:
    """Return the worst of some states; `up` if there are none."""
    return max(("up", *states), key=severity)


class Beat(NamedTuple):
    """The last beat of one instance as its reader sees it: how old it is now, and what it said."""

    worker: str
    instance: str
    age_seconds: float
    timeout_seconds: float
    publish_interval_seconds: float = 0.0
    phase: str | None = None
    progress: int | None = None
    local: bool = True
    """Whether this process made it."""
    token: str = ""
    """New at each start of a process: tells two under one instance name apart."""


def is_fresh(beat: Beat) -> bool:
    """Whether a beat is young enough. With a timeout of 0 none ever is."""
    return (
        beat.timeout_seconds > 0
        and beat.age_seconds <= beat.timeout_seconds + beat.publish_interval_seconds
    )


def aged(beat: Beat, elapsed: float) -> Beat:
    """Return a beat as old as it is after so many seconds, in which nobody looked.

    One that was fresh stays so: it may have beaten meanwhile.
    """
    age = beat.age_seconds + elapsed
    if is_fresh(beat):
        age = min(age, beat.timeout_seconds + beat.publish_interval_seconds)
    return beat._replace(age_seconds=age)


def fresh_and_stale(beats: Iterable[Beat]) -> tuple[list[Beat], list[Beat]]:
    """Return those that are fresh and those that are not: `is_fresh` of ten thousand at once."""
    fresh: list[Beat] = []
    stale: list[Beat] = []
    for beat in beats:
        _, _, age, timeout, interval, *_ = beat
        (fresh if timeout > 0 and age <= timeout + interval else stale).append(beat)
    return fresh, stale


def worker_outcome(
    beats: Sequence[Beat],
    min_instances: int,
    *,
    in_grace: bool,
    instances: int | None = None,
    stalled: Sequence[Beat] = (),
    unseen: bool = False,
) -> Outcome:
    """Return what the beats of one worker say: up while `min_instances` of them are fresh.

    A worker that never beat is `pending` while it has grace and `missing` after. One that is up is
    degraded while two processes beat under one instance name, while one of those that are
    `stalled` is fresh, or while fewer than `instances` are. If the store could not be read, and
    what is `unseen` might make it up, it is degraded and `unavailable`.
    """
    living, _ = fresh_and_stale(beats)
    fresh = len(living)
    details = Details({"instances": len(beats), "fresh": fresh, "min_instances": min_instances})
    here = sum(beat.local for beat in living)
    if unseen and (not here or here < min_instances):
        message = "the heartbeat store could not be read, and who beats elsewhere is not known"
        return Outcome("degraded", "unavailable", message=message, details=details)
    if not beats or fresh < min_instances:
        return _too_few(beats, fresh, min_instances, details, in_grace=in_grace)
    double = _doubles(living)
    if double:
        message = f"two processes beat as instance {double[0]!r}"
        details = Details({**details, "conflicts": double[:MAX_NAMED]})
        return Outcome("degraded", "reported", message=message, details=details)
    stuck = sorted({beat.instance for beat in stalled if is_fresh(beat)})
    if stuck:
        message = f"instance {stuck[0]!r} is busy and makes no progress"
        details = Details({**details, "stalled": stuck[:MAX_NAMED]})
        return Outcome("degraded", "stale", message=message, details=details)
    if instances is not None and fresh < instances:
        message = f"{fresh} of {instances} expected instances are fresh"
        return Outcome("degraded", "missing", message=message, details=details)
    return Outcome("up", details=details)


def _too_few(
    beats: Sequence[Beat], fresh: int, min_instances: int, details: Details, *, in_grace: bool
) -> Outcome:
    if not beats:
        kind: FailureKind = "pending" if in_grace else "missing"
        return Outcome("down", kind, message="it has never beaten", details=details)
    if fresh == len(beats):
        message = f"{fresh} of at least {min_instances} instances are there"
        return Outcome("down", "missing", message=message, details=details)
    late = youngest_stale(beats)
    message = (
        f"{fresh} of at least {min_instances} instances are fresh, the next one's last beat is "
        f"{late.age_seconds:.1f} s old, its timeout {late.timeout_seconds:g} s"
    )
    return Outcome("down", "stale", message=message, details=details)


def _doubles(living: Sequence[Beat]) -> list[str]:
    """Return the instance names under which more than one process lives."""
    lives = {(beat.instance, beat.token) for beat in living}
    if len(lives) == len({instance for instance, _ in lives}):
        return []
    names = Counter(instance for instance, _ in lives)
    return sorted(name for name, processes in names.items() if processes > 1)


def youngest_stale(beats: Sequence[Beat]) -> Beat:
    """Return the beat that grew too old last; there must be one."""
    return min((beat for beat in beats if not is_fresh(beat)), key=lambda beat: beat.age_seconds)
