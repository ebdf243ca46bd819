"""Background refresh: every check is asked at its own pace, whoever wants to know.

The first run of each check falls anywhere within its interval, and each pause is up to 10 %
longer or shorter: of many processes that start together no two keep step, so what they share
sees a steady load. Whoever asks before the first run has it run at once.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context

from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.domain.redaction import class_name
from cqrs_ddd_health.domain.selection import EVERYTHING
from cqrs_ddd_health.runtime.clock import JITTER, at_random
from cqrs_ddd_health.runtime.greenlets import RLock
from cqrs_ddd_health.runtime.readers import warn
from cqrs_ddd_health.runtime.tasks import start_task

from .check_table import Catalog
from .runner import Runner
from .single_flight import Slot

__all__ = ["Pace", "Refresher"]

IDLE_SECONDS = 0.5
"""How soon a check that was registered meanwhile, or a leader that is gone, is noticed."""

GRAIN_SECONDS = 0.05
"""What is due within this time is asked together: the loop is not woken for each check."""


class Pace:
    """When one check is due next. All times are seconds of the event loop."""

    def __init__(self, options: CheckOptions, now: float, chance: Callable[[], float]) -> None:
        delay = options.initial_delay_seconds
        self._options = options
        self._chance = chance
        self._from = now
        self._stretch = 1.0
        self._first: float | None = options.interval_seconds * chance() if delay is None else delay

    def due_at(self, *, down: bool) -> float:
        """Return when it is due, which depends on how it is now."""
        if self._first is not None:
            return self._from + self._first
        options = self._options
        interval = options.down_interval_seconds if down else options.interval_seconds
        return self._from + interval * self._stretch

    def start(self, now: float) -> None:
        """A run begins now, and with it the pause until the next one."""
        self._from = now
        self._first = None
        self._stretch = 1 + JITTER * (2 * self._chance() - 1)


class Refresher:
    """Refreshes the checks of one registry while somebody wants it to."""

    def __init__(
        self,
        catalog: Catalog,
        runner: Runner,
        others: Sequence[Slot] = (),
        chance: Callable[[], float] = at_random,
    ) -> None:
        self._catalog = catalog
        self._others = others
        self._runner = runner
        self._chance = chance
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the loop and its task stayed with the parent."""
        self._leader: Task[None] | None = None
        self._paces: dict[Slot, Pace] = {}  # kept when another one takes the lead
        self._lock = RLock()
        self._users = 0
        self.generation: int = 0
        """How often the first of some blocks was entered."""
        self._failed_with: type[Exception] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody, on whichever loop, is within `running()`."""
        return self._users > 0

    @property
    def is_running(self) -> bool:
        """Whether checks are being refreshed now, on whichever loop."""
        leader = self._leader
        return leader is not None and not leader.done() and leader.get_loop().is_running()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Refresh all checks while the block lasts; of several at a time only one does.

        What was found before the first of them is believed no more, however lately that was: the
        process may have been frozen, or started its application anew.
        """
        task = start_task(self._run(), "cqrs-health refresh", Context())
        if not self.is_running:
            self._leader = task
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)
            task.cancel()
            await asyncio.wait({task})
            if not self.is_wanted:
                await self._runner.end_unwatched(self._slots())

    def _count(self, step: int) -> None:
        with self._lock:
            # A child of a fork may leave a block that its parent has entered.
            before, self._users = self._users, max(self._users + step, 0)
            if not self._users:
                self._paces = {}
            elif not before:
                self.generation += 1
                self._runner.disbelieve(self._slots())

    def _slots(self) -> Sequence[Slot]:
        return (*self._catalog.slots.values(), *self._others)

    async def _run(self) -> None:
        while True:
            if not self.is_running:
                self._leader = asyncio.current_task()
            wait = IDLE_SECONDS
            if self._leader is asyncio.current_task():
                wait = await self._refresh_or_say_why()
            await asyncio.sleep(wait)

    async def _refresh_or_say_why(self) -> float:
        try:
            return await self._refresh()
        except Exception as error:  # a clock may raise; what is not refreshed looks alive for long
            if self._failed_with is not type(error):
                self._failed_with = type(error)
                warn(
                    "the background refresh failed, and goes on: %s", class_name(error), error=error
                )
            return IDLE_SECONDS

    async def _refresh(self) -> float:
        """Ask what is due, and return how long there is nothing to do."""
        paces = self._paces
        now = asyncio.get_running_loop().time()
        slots = (*self._catalog.select(EVERYTHING), *self._others)
        for slot in paces.keys() - set(slots):
            del paces[slot]
        for slot in slots:
            if slot not in paces:
                paces[slot] = Pace(slot.options, now, self._chance)
        due = [
            slot for slot in slots if paces[slot].due_at(down=slot.is_down) <= now + GRAIN_SECONDS
        ]
        for slot in due:
            paces[slot].start(now)
        if due:
            await self._runner.ask(due, deadline_seconds=0.0)
        next_at = min((paces[slot].due_at(down=slot.is_down) for slot in slots), default=now)
        return min(max(next_at - now, GRAIN_SECONDS), IDLE_SECONDS)
