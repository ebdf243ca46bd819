"""Asks checks: one flight of a check at a time, bounded in time, whatever the check does.

A flight is one run of one check that everyone who asks meanwhile waits for. It runs in a task of
its own and is decided once: by what the check did, or by its timeout, when it is cancelled. It
occupies its slot until its task and its threads have really ended, and a slot that is occupied
by a decided flight hangs: it is not started again. Why each line is as it is, measured:
`asyncio.wait_for` and `asyncio.timeout` wait for a check that swallows its cancellation,
`shield` costs twice as much, and the first asker's context must not be everybody's.
"""

from __future__ import annotations

import asyncio
import math
import sys
from asyncio import AbstractEventLoop, CancelledError, Task, TimerHandle
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING

from cqrs_ddd_health.domain.evaluation import SUCCESS, Outcome
from cqrs_ddd_health.domain.models import ComponentStatus
from cqrs_ddd_health.domain.outcomes import HANGING, NESTED, outcome_of, outcome_of_error, timed_out
from cqrs_ddd_health.domain.transitions import Transition
from cqrs_ddd_health.runtime.cancellation import (
    cut_off,
    end_on,
    end_tasks,
    is_cancelled_from_outside,
    is_ctrl_c,
)
from cqrs_ddd_health.runtime.greenlets import RLock
from cqrs_ddd_health.runtime.readers import warn
from cqrs_ddd_health.runtime.tasks import all_of
from cqrs_ddd_health.runtime.threads import DaemonThreads, OwnerLoopError, require_owner_loop

from .judging import Judge
from .owner_loop import OwnerLoop
from .single_flight import UNOWNED, Asker, Flight, Slot, by_due_time, shown

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["Runner", "Slot"]

MAX_NESTED_AWAITABLES = 4


class Runner:
    """Asks the checks of one registry.

    All run on the owner loop while that runs, and askers on other loops and threads wait for the
    flights there. Where it does not, or is not known, those that need no loop of the application
    run on the asker's, and the others are not asked.
    """

    def __init__(
        self,
        clock: Clock,
        threads: DaemonThreads,
        owner: OwnerLoop,
        tell: Callable[[Transition, Context], None],
    ) -> None:
        self.threads: DaemonThreads = threads
        self.owner: OwnerLoop = owner
        self.lock: RLock = RLock()
        self._monotonic = clock.monotonic
        self._now = clock.now
        self._judge = Judge(clock, tell).judge
        self._hung: set[Flight] = set()
        self._has_warned = False

    @property
    def hung(self) -> int:
        """How many checks were cut off and have not ended yet."""
        return len(self._hung)

    def registered_on(self, loop: AbstractEventLoop | None) -> None:
        """Note which loop ran, if any did, when a check was registered."""
        if loop is not None:
            with self.lock:
                self.owner.registered_on(loop)

    @contextmanager
    def owned_by(self, owner: AbstractEventLoop | None) -> Generator[None]:
        """Have that loop, or else the running one, own the checks while the block lasts."""
        loop = asyncio.get_running_loop() if owner is None else owner
        with self.lock:
            self.owner.enter(loop, pinned=owner is not None)
        try:
            yield
        finally:
            with self.lock:
                self.owner.leave(loop, pinned=owner is not None)

    async def ask(
        self,
        slots: Sequence[Slot],
        *,
        max_age_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> None:
        """Return when every slot has an outcome that is fresh enough, or at the deadline.

        A slot that can be asked nowhere has none, and is not waited for.
        """
        loop = asyncio.get_running_loop()
        now = self._monotonic()
        with self.lock:
            owner = self.owner.seen_on(loop)
            is_owned = owner is loop or (owner is not None and owner.is_running())
            where = owner if owner is not None and is_owned else loop
            started, joined = self._flights_for(
                slots, where, now, now - max_age_seconds, is_owned=is_owned
            )
        if where is loop:
            self._launch(started)
        elif started:
            with suppress(RuntimeError):  # closed just now: whoever asks next finds them lost
                where.call_soon_threadsafe(self._launch_in_time, started)
        asker = Asker(loop)
        with self.lock:
            for flight in (*started, *joined):
                if not flight.decided:
                    flight.waiting[asker] = None
                    asker.awaited += 1
        if asker.awaited:
            await self._wait(asker, started, joined, now, deadline_seconds)
            lost = [
                *(flight.slot for flight in started if flight.misplaced),
                *(flight.slot for flight in joined if flight.lost),
            ]
            if lost:  # and ready for a new flight, for which there is less time left
                spent = self._monotonic() - now
                left = max(slot.options.timeout_seconds for slot in lost)
                if deadline_seconds is not None:
                    left = min(left, deadline_seconds)
                await self.ask(
                    lost,
                    max_age_seconds=max_age_seconds,
                    deadline_seconds=max(left - spent, 0.0),
                )

    def _flights_for(
        self,
        slots: Sequence[Slot],
        loop: AbstractEventLoop,
        now: float,
        fresh: float,
        *,
        is_owned: bool,
    ) -> tuple[list[Flight], list[Flight]]:
        """Return flights of all slots that need one: those to be launched, and those on the way."""
        started: list[Flight] = []
        joined: list[Flight] = []
        here = copy_context()
        for slot in slots:
            if slot.judged_at > fresh:
                continue
            if slot.flight is not None:
                self._look_after(slot, slot.flight, now)
            if slot.flight is None:
                if slot.loop_bound and not is_owned:
                    self._see_unowned(slot)
                    continue
                slot.unowned_since = None
                slot.flight = Flight(self, slot, loop, now, here, is_owned=is_owned)
                started.append(slot.flight)
            elif not slot.flight.decided:  # or else it hangs, and its row says so
                joined.append(slot.flight)
        return started, joined

    def _look_after(self, slot: Slot, flight: Flight, now: float) -> None:
        """End a flight that is lost, or say of one that hangs that it does."""
        if flight.is_lost():
            self._end(flight)
        if flight.decided and slot.flight is flight:
            self._see_hanging(slot, flight, now)

    def _see_hanging(self, slot: Slot, flight: Flight, now: float) -> None:
        """Say that it hangs; it fails once more each time that one more run could have failed."""
        counts = now - slot.judged_at >= slot.options.timeout_seconds
        failure = slot.state.failure if slot.state is not None else None
        if counts or failure is None or failure.kind != "hung":
            elapsed = now - flight.started_at
            hanging = HANGING._replace(failing_since=self._now() - timedelta(seconds=elapsed))
            self._judge(slot, hanging, flight.started_at, now, copy_context(), counts=counts)

    def _see_unowned(self, slot: Slot) -> None:
        """Have its row say that it is not asked, and the log once: rows may show no messages."""
        slot.unowned_since = slot.unowned_since or self._now()
        if not self._has_warned:
            self._has_warned = True
            warn("check %r is pending: %s", slot.name, UNOWNED)

    def _launch(self, flights: list[Flight]) -> None:
        try:
            self._begin(flights)
        except BaseException:  # a Ctrl-C in the first step of one: the others never begin
            with self.lock:
                for flight in flights:
                    if flight.task is None:
                        self._end(flight)
            raise

    def _begin(self, flights: list[Flight]) -> None:
        fly = self._fly
        # An eager task runs up to its first suspension at once: a check that never suspends costs
        # no trip through the loop. Said twice, as the hot path of a report cannot afford a call.
        if sys.version_info >= (3, 12):
            for flight in flights:
                flight.task = Task(
                    fly(flight),
                    loop=flight.loop,
                    name=flight.slot.task_name,
                    context=flight.slot.context.copy(),
                    eager_start=True,
                )
        else:  # CPython 3.11 has none
            for flight in flights:
                flight.task = Task(
                    fly(flight),
                    loop=flight.loop,
                    name=flight.slot.task_name,
                    context=flight.slot.context.copy(),
                )

    def _launch_in_time(self, flights: list[Flight]) -> None:
        """Launch what its asker has not given up meanwhile; this loop was busy."""
        with self.lock:
            late = [flight for flight in flights if flight.decided]
            for flight in late:
                self._end(flight)
        self._launch([flight for flight in flights if not flight.ended])

    async def _fly(self, flight: Flight) -> None:
        outcome: Outcome | None = None
        began = flight.started_at
        try:
            began = self._monotonic()
            value = await flight.slot.ask()
            outcome = SUCCESS if value is True else await _read(value)
        except CancelledError as error:
            if is_cancelled_from_outside():
                raise
            outcome = outcome_of_error(error)
        except OwnerLoopError:
            # Who waits for it asks anew, where that may be done.
            flight.slot.loop_bound = flight.misplaced = True
        except BaseException as error:  # SystemExit leaving a task would end the loop
            outcome = flight.outcome_of(error)
            # By its type: to `isinstance` an exception may lie, or raise another.
            if issubclass(type(error), KeyboardInterrupt) and is_ctrl_c():
                raise
        finally:
            self._land(flight, outcome, began)

    def _land(self, flight: Flight, outcome: Outcome | None, began: float) -> None:
        """The task has come to its end: with an outcome, or cancelled with none."""
        with self.lock:
            try:
                if outcome is not None and not flight.decided:
                    flight.decided = True  # whatever comes of judging it
                    self._judge(flight.slot, outcome, began, self._monotonic(), flight.asked_in)
                elif not flight.decided:
                    flight.slot.judged_at = -math.inf  # what it said before stands in no longer
            finally:
                self._end(flight, here=flight.loop)

    def _end(self, flight: Flight, here: AbstractEventLoop | None = None) -> None:
        if flight.ended:
            return  # it was given up for lost, and its loop went on after all
        flight.ended = True
        flight.blamed = None  # with its traceback, and all that is held by that
        self.release(flight)
        if flight.holds and not flight.decided:
            return  # it pends until that blocking call has ended, or its time is up
        flight.decided = True
        if flight.holds:
            self._hung.add(flight)  # the task is over, a blocking call of it is not
        if flight.waiting:
            self._wake(flight, here)

    def release(self, flight: Flight) -> None:
        """One thing that the flight started has ended; with the last one its slot is free."""
        flight.holds -= 1
        if not flight.holds:
            self._hung.discard(flight)
            if flight.slot.flight is flight:
                flight.slot.flight = None
            if flight.waiting and not flight.decided:
                flight.lost = flight.decided = True
                self._wake(flight)

    def _expire(self, flights: Iterable[Flight]) -> None:
        for flight in flights:
            with self.lock:
                if not flight.decided:
                    self._time_out(flight)

    def _time_out(self, flight: Flight) -> None:
        flight.decided = True
        self._hung.add(flight)
        outcome, now = timed_out(flight.slot.options.timeout_seconds), self._monotonic()
        try:
            self._judge(flight.slot, outcome, flight.started_at, now, flight.asked_in)
        finally:
            self._wake(flight)
            if flight.task is not None:
                with suppress(RuntimeError):  # its loop is closed
                    flight.loop.call_soon_threadsafe(cut_off, flight.task)

    def _wake(self, flight: Flight, here: AbstractEventLoop | None = None) -> None:
        waiting, flight.waiting = flight.waiting, {}
        for asker in waiting:
            asker.arrive(here)

    async def _wait(
        self,
        asker: Asker,
        started: list[Flight],
        joined: list[Flight],
        now: float,
        deadline: float | None,
    ) -> None:
        """Wait for the flights; each is bounded by a timer of everyone who waits for it."""
        asker.future = asker.loop.create_future()
        own = [self._timer(asker, due_at - now, fs) for due_at, fs in by_due_time(started)]
        others = [self._timer(asker, due_at - now, fs) for due_at, fs in by_due_time(joined)]
        if deadline is not None:
            others.append(asker.loop.call_later(deadline, asker.wake))
        try:
            await asker.future
        finally:
            if asker.awaited:  # gone early: its flights go on, and so do the timers that bound them
                self._leave(asker, (*started, *joined))
                own.clear()
            for timer in (*own, *others):
                timer.cancel()

    def _timer(self, asker: Asker, delay: float, flights: list[Flight]) -> TimerHandle:
        # One turn of the loop later: after a coroutine blocked it, what has ended meanwhile lands
        # first, and is late but right.
        return asker.loop.call_later(delay, asker.loop.call_soon, self._expire, flights)

    def _leave(self, asker: Asker, flights: Iterable[Flight]) -> None:
        with self.lock:
            for flight in flights:
                flight.waiting.pop(asker, None)

    def rows(
        self, slots: Iterable[Slot], asked_at: float, max_age_seconds: float, at: datetime
    ) -> list[ComponentStatus]:
        """Return what a report that began at `asked_at` says of slots.

        That is the outcome that it asked for, or in its place the last one while that may stand in.
        """
        fresh = asked_at - max_age_seconds
        return [
            slot.row
            if slot.row is not None and slot.judged_at >= fresh
            else shown(slot, self._monotonic(), at)
            for slot in slots
        ]

    def disbelieve(self, slots: Iterable[Slot]) -> None:
        """Have no outcome so far stand in for a new one."""
        with self.lock:
            for slot in slots:
                slot.judged_at = -math.inf

    async def end_unwatched(self, slots: Iterable[Slot]) -> None:
        """Cancel the flights that nobody waits for, each on its loop, and see them end."""
        by_loop: dict[AbstractEventLoop, list[Task[None]]] = {}
        with self.lock:
            flights = [slot.flight for slot in slots if slot.flight is not None]
            for flight in flights:
                if flight.task is not None and not flight.waiting:
                    by_loop.setdefault(flight.loop, []).append(flight.task)
        endings = (end_on(loop, partial(end_tasks, tasks)) for loop, tasks in by_loop.items())
        await all_of(*endings, name="cqrs-health end")

    def forget_flights(self, slots: Iterable[Slot]) -> None:
        """Start anew in a forked child: the tasks, threads and loops stayed with the parent."""
        self.lock = RLock()
        self.threads.reset()
        self._hung.clear()
        self.owner.begin_process()
        for slot in slots:
            slot.begin_process()


async def _read(value: object) -> Outcome:
    for _ in range(MAX_NESTED_AWAITABLES):
        if type(value) is Outcome:
            return value
        if not isawaitable(value):
            return outcome_of(value)
        require_owner_loop(value)
        value = await value
    return NESTED
