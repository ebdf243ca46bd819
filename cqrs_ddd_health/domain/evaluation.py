"""The pure rules of health: from outcomes to states. Time is always an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from .details import EMPTY, Details
from .models import ComponentState, Failure, FailureKind, severity
from .options import CheckOptions

__all__ = [
    "SUCCESS",
    "Beat",
    "CheckState",
    "LeftOut",
    "Outcome",
    "Seen",
    "is_fresh",
    "next_state",
    "worker_outcome",
    "worst",
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


LeftOut: TypeAlias = Literal["nobody", "the dead", "the living"]
"""Of whom a limit may have left out beats: only of who published long ago, or of anybody."""


class Seen(NamedTuple):
    """What the beats of one worker come to."""

    instances: int = 0
    fresh: int = 0
    here: int = 0
    """How many of the fresh ones this process made."""
    doubles: Sequence[str] = ()
    """The names under which more than one process beats."""
    stuck: Sequence[str] = ()
    """The fresh instances that are busy and make no progress."""
    late: Beat | None = None
    """The beat that grew too old last."""


_UNSEEN = "the heartbeat store could not be read, and who beats elsewhere is not known"
_SILENT = "nothing new comes from any process: what is read may not be what is published"


def worker_outcome(
    seen: Seen,
    min_instances: int,
    *,
    in_grace: bool,
    instances: int | None = None,
    unseen: bool = False,
    left_out: LeftOut = "nobody",
    silent: bool = False,
) -> Outcome:
    """Return what the beats of one worker say: up while `min_instances` of them are fresh.

    A worker that never beat is `pending` while it has grace and `missing` after. One that is up is
    degraded while two processes beat under one instance name, while one that is fresh is stuck, or
    while fewer than `instances` are fresh. If the store could not be read, and what is `unseen`
    might make it up, it is degraded and `unavailable`. So it is while some of what is in the store
    was `left_out`, and may be what it lacks: of the living, or of the dead of whom none was seen;
    and while it is `silent`: it would be down, and nothing new comes from any process.
    """
    known = {"instances": seen.instances, "fresh": seen.fresh, "min_instances": min_instances}
    details = Details(known)
    is_down = not seen.instances or seen.fresh < min_instances
    unknown = _unknown(seen, min_instances, instances, left_out, unseen=unseen)
    if unknown is None and is_down and silent:
        unknown = "nothing new comes from any process: what is read may not be what is published"
    if unknown is not None:
        return Outcome("degraded", "unavailable", message=unknown, details=details)
    if is_down:
        return _too_few(seen, min_instances, details, in_grace=in_grace)
    if seen.doubles:
        message = f"two processes beat as instance {seen.doubles[0]!r}"
        details = Details({**known, "conflicts": seen.doubles[:MAX_NAMED]})
        return Outcome("degraded", "reported", message=message, details=details)
    if seen.stuck:
        message = f"instance {seen.stuck[0]!r} is busy and makes no progress"
        details = Details({**known, "stalled": seen.stuck[:MAX_NAMED]})
        return Outcome("degraded", "stale", message=message, details=details)
    if instances is not None and seen.fresh < instances:
        message = f"{seen.fresh} of {instances} expected instances are fresh"
        return Outcome("degraded", "missing", message=message, details=details)
    return Outcome("up", details=details)


def _unknown(
    seen: Seen, min_instances: int, instances: int | None, left_out: LeftOut, *, unseen: bool
) -> str | None:
    """Return why it is not known whether there are enough, if it is not."""
    if unseen and (not seen.here or seen.here < min_instances):
        return "the heartbeat store could not be read, and who beats elsewhere is not known"
    if left_out == "nobody" or seen.fresh >= max(min_instances, instances or 0):
        return None
    if left_out == "the dead" and seen.late is not None:  # and what lives was read
        return None
    return "not all that is in the heartbeat store was read, and it may be among the rest"


def _too_few(seen: Seen, min_instances: int, details: Details, *, in_grace: bool) -> Outcome:
    if not seen.instances:
        kind: FailureKind = "pending" if in_grace else "missing"
        return Outcome("down", kind, message="it has never beaten", details=details)
    if seen.late is None:
        message = f"{seen.fresh} of at least {min_instances} instances are there"
        return Outcome("down", "missing", message=message, details=details)
    message = (
        f"{seen.fresh} of at least {min_instances} instances are fresh, the next one's last beat "
        f"is {seen.late.age_seconds:.1f} s old, its timeout {seen.late.timeout_seconds:g} s"
    )
    return Outcome("down", "stale", message=message, details=details)
