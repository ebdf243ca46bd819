"""What is asked, and who waits for it: the running state of checks. `runner.py` has the rules."""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timedelta
from typing import Protocol

from cqrs_ddd_health.domain.details import EMPTY, Details
from cqrs_ddd_health.domain.evaluation import CheckState, Outcome
from cqrs_ddd_health.domain.models import ComponentKind, ComponentStatus, Failure
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.domain.outcomes import outcome_of_error
from cqrs_ddd_health.runtime.clock import JITTER
from cqrs_ddd_health.runtime.greenlets import RLock
from cqrs_ddd_health.runtime.threads import DaemonThreads, occupant

from .history import Results
from .tallies import Tally

__all__ = [
    "UNOWNED",
    "Asker",
    "Crew",
    "Flight",
    "Slot",
    "by_due_time",
    "is_aged",
    "row_of",
    "shown",
    "stands_in",
]


class Crew(Protocol):
    """What a flight needs of the runner that it belongs to."""

    threads: DaemonThreads
    lock: RLock

    def release(self, flight: Flight) -> None: ...


class Slot:
    """One registered check while it lives: how it is asked, and where it stands."""

    __slots__ = (
        "ask",
        "context",
        "flight",
        "gone",
        "judged_at",
        "kind",
        "layers",
        "loop_bound",
        "name",
        "options",
        "results",
        "row",
        "state",
        "tally",
        "task_name",
        "unowned_since",
    )

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[object]],
        options: CheckOptions,
        layers: Sequence[CheckOptions | None] = (),
        *,
        kind: ComponentKind = "check",
        loop_bound: bool | None = None,
    ) -> None:
        self.name: str = name
        self.kind: ComponentKind = kind
        self.ask: Callable[[], Awaitable[object]] = ask
        self.options: CheckOptions = options
        self.layers: Sequence[CheckOptions | None] = layers  # what the options were made of
        self.task_name: str = f"cqrs-health check {name}"
        self.state: CheckState | None = None
        self.row: ComponentStatus | None = None
        self.results: Results = Results()
        self.tally: Tally = Tally()
        self.judged_at: float = -math.inf
        self.flight: Flight | None = None
        self.gone: bool = False  # unregistered or replaced: nobody is told of it any more
        # Whether it uses what belongs to the application's loop; None until that is found out.
        self.loop_bound: bool | None = loop_bound
        self.unowned_since: datetime | None = None  # it does, and no such loop runs
        # Every flight starts in a copy of this one, empty but for whose flight it is: the context
        # of the first who asks is nobody else's business.
        self.context: Context = Context()
        self.context.run(occupant.set, self)

    @property
    def is_down(self) -> bool:
        return self.state is not None and self.state.state == "down"

    def begin_process(self) -> None:
        """Start anew in a forked child: what ran, and was counted, is the parent's."""
        self.flight = None
        self.tally = Tally()
        self.unowned_since = None


class Flight:
    """One run of one check. Everything that changes in it is guarded by the runner's lock."""

    __slots__ = (
        "asked_in",
        "blamed",
        "decided",
        "due_at",
        "ended",
        "holds",
        "loop",
        "lost",
        "may_await",
        "misplaced",
        "pending_since",
        "runner",
        "slot",
        "started_at",
        "task",
        "waiting",
    )

    def __init__(
        self,
        runner: Crew,
        slot: Slot,
        loop: AbstractEventLoop,
        now: float,
        asked_in: Context,
        *,
        is_owned: bool,
    ) -> None:
        self.asked_in: Context = asked_in  # of whoever asked first; the run has one of its own
        self.runner: Crew = runner
        self.slot: Slot = slot
        self.loop: AbstractEventLoop = loop
        # Whether it may use what belongs to a loop: the application's loop, or one for its own.
        self.may_await: bool = is_owned or slot.loop_bound is False
        self.task: Task[None] | None = None
        self.started_at: float = now
        self.due_at: float = now + slot.options.timeout_seconds
        self.pending_since: datetime | None = None  # known once somebody was told that it pends
        self.decided: bool = False  # its outcome is known
        self.ended: bool = False  # its task has come to its end
        self.misplaced: bool = False  # its check turned out to need the owner loop
        self.lost: bool = False  # it has, and its threads too, and nobody knows with what outcome
        self.holds: int = 1  # what keeps its slot: the task, and each thread that it started
        self.waiting: dict[Asker, None] = {}
        self.blamed: tuple[BaseException, Outcome] | None = None  # until its task has ended

    @property
    def threads(self) -> DaemonThreads:
        return self.runner.threads

    def hold(self) -> None:
        with self.runner.lock:
            self.holds += 1

    def release(self) -> None:
        with self.runner.lock:
            self.runner.release(self)

    def blame(self, error: BaseException) -> None:
        """Note on the thread of a blocking call what it raised: the words may block as well."""
        if not self.ended:
            self.blamed = error, outcome_of_error(error)

    def outcome_of(self, error: BaseException) -> Outcome:
        """Return what it means that the check raised `error`."""
        blamed = self.blamed
        return blamed[1] if blamed and blamed[0] is error else outcome_of_error(error)

    def is_lost(self) -> bool:
        """Whether its task will never come to its end: its loop stopped, or it was never begun."""
        if self.ended:
            return False
        return not self.loop.is_running() or (self.task is not None and self.task.done())


def by_due_time(flights: list[Flight]) -> Iterable[tuple[float, list[Flight]]]:
    """Group the flights that are still undecided: one timer a group, not one a flight."""
    groups: dict[float, list[Flight]] = {}
    for flight in flights:
        if not flight.decided:
            groups.setdefault(flight.due_at, []).append(flight)
    return groups.items()


class Asker:
    """Someone who waits on a loop until a number of flights are decided."""

    __slots__ = ("awaited", "future", "loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop: AbstractEventLoop = loop
        self.awaited: int = 0
        self.future: Future[None] | None = None

    def arrive(self, here: AbstractEventLoop | None) -> None:
        """One of the flights is decided; `here` is the loop that runs this code, if known."""
        if here is self.loop:
            self._count()
            return
        with suppress(RuntimeError):  # its loop is closed, and the asker gone with it
            self.loop.call_soon_threadsafe(self._count)

    def wake(self) -> None:
        """End its waiting."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def _count(self) -> None:
        self.awaited -= 1
        if not self.awaited:
            self.wake()


UNOWNED = (
    "it is not asked: its client belongs to the event loop of the application, and none that runs "
    "is known. Await registry.report() or enter `async with HealthServer(registry)` on that loop; "
    "if no loop uses the client but this check, make the registry with own_loop=True"
)


def shown(slot: Slot, now: float, at: datetime) -> ComponentStatus:
    """Return the last outcome of a slot while it may stand in for a new one, or that it pends."""
    hangs = slot.flight is not None and slot.flight.decided
    if slot.unowned_since is not None and not hangs:
        return _pending(slot, UNOWNED, slot.unowned_since)
    if slot.row is not None and (hangs or stands_in(slot, now)):
        return slot.row
    return _pending(slot, "it has not answered yet", _pending_since(slot.flight, now, at))


def _pending(slot: Slot, message: str, since: datetime) -> ComponentStatus:
    failure = Failure(kind="pending", message=message, since=since)
    return row_of(slot, CheckState("down", since, failure), EMPTY, None, None)


def _pending_since(flight: Flight | None, now: float, at: datetime) -> datetime:
    if flight is None:
        return at
    if flight.pending_since is None:
        flight.pending_since = at - timedelta(seconds=now - flight.started_at)
    return flight.pending_since


def stands_in(slot: Slot, now: float) -> bool:
    """Whether the last outcome is so young that it may stand in for a new one."""
    return now - slot.judged_at <= _stand_in_seconds(slot)


def is_aged(slot: Slot, at: datetime) -> bool:
    """Whether the last outcome is too old for that by the wall clock.

    The monotonic clock stands still while some machines sleep. A wall clock that was set forward
    says so too, and then a check is asked once more than it had to be.
    """
    if slot.row is None or slot.row.checked_at is None:
        return False
    return (at - slot.row.checked_at).total_seconds() > _stand_in_seconds(slot)


def _stand_in_seconds(slot: Slot) -> float:
    """As long as a background run may be away, jitter included, and then take."""
    options = slot.options
    interval = options.down_interval_seconds if slot.is_down else options.interval_seconds
    return options.timeout_seconds + interval * (1 + JITTER)


def row_of(
    slot: Slot,
    state: CheckState,
    details: Details,
    at: datetime | None,
    latency: float | None,
) -> ComponentStatus:
    """Return the row of a slot that stands at `state`."""
    options = slot.options
    return ComponentStatus(
        name=slot.name,
        kind=slot.kind,
        state=state.state,
        critical=options.critical,
        tags=options.tags,
        probes=options.probes,
        since=state.since,
        checked_at=at,
        latency_seconds=latency,
        failure=state.failure,
        consecutive_failures=state.failures,
        details=details,
    )
