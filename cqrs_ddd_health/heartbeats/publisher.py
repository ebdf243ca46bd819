"""Publishes this process's beats into a shared store, from a thread and a loop of its own.

Every interval the true age of every beat is published, whether or not it beat again: that renews
nothing, since the age grows; it heals a store that lost its rows within one interval; and it tells
a worker that is stuck, published lately with an old beat, from one that is gone. All that is asked
of the store happens on that loop, reading too: a client belongs to one loop, and the application's
may be busy.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import weakref
from asyncio import AbstractEventLoop, Task
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from cqrs_ddd_health.domain.protocols import HeartbeatStore, StoredBeat
from cqrs_ddd_health.runtime.cancellation import retrieve
from cqrs_ddd_health.runtime.clock import JITTER, at_random
from cqrs_ddd_health.runtime.forking import IS_KNOWN
from cqrs_ddd_health.runtime.greenlets import Joinable, NoThreadsError, RLock, start_loop
from cqrs_ddd_health.runtime.tasks import future_on, start_task
from cqrs_ddd_health.runtime.uwsgi import is_before_fork, require_threads

from .stores.refusals import refusal_of

__all__ = ["Publisher", "publish_interval"]

T = TypeVar("T")

MAX_INTERVAL_SECONDS = 5.0
MIN_INTERVAL_SECONDS = 0.05
COALESCED = 0.2
"""Which part of an interval must have passed before news are published before its end."""

PUBLISH_SECONDS = 5.0
"""How long one publish may take before it is given up, and tried again with newer ages."""

EXIT_SECONDS = 1.0
"""How long the exit of the process waits for the store."""

MAX_GOODBYES = 1_000
"""How many goodbyes wait for a store that is away; a row that got none grows stale."""

_logger = logging.getLogger("cqrs_ddd_health")


def publish_interval(timeouts: Sequence[float]) -> float:
    """Return how often to publish: a tenth of the smallest timeout, at most every 5 s."""
    smallest = min((timeout for timeout in timeouts if timeout > 0), default=float("inf"))
    return min(max(smallest / 10, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)


class _Ending(NamedTuple):
    """How the thread is to end."""

    seconds: float
    goodbye: bool


class Publisher:
    """Publishes what `beats(interval_seconds)` returns; starts when it is first needed.

    `timeouts()` returns the timeouts of all beats, which decide the interval. The beats' publish
    numbers are set here.
    """

    def __init__(
        self,
        store: HeartbeatStore,
        timeouts: Callable[[], Sequence[float]],
        beats: Callable[[float], Sequence[StoredBeat]],
        chance: Callable[[], float] = at_random,
    ) -> None:
        self._store = store
        self._timeouts = timeouts
        self._beats = beats
        self._chance = chance
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the thread stayed with the parent."""
        self.failure: str | None = None
        """What the last publish raised, in words without a secret, if it did not succeed."""
        self._lock = RLock()
        self._thread: Joinable | None = None
        self._loop: AbstractEventLoop | None = None
        self._goodbyes: deque[tuple[str, str, str]] = deque(maxlen=MAX_GOODBYES)
        self._number = 0
        self._is_gone = False
        self._prepare()

    def _prepare(self) -> None:
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._ending = _Ending(0.0, goodbye=False)
        self._asking: set[Task[None]] = set()

    @property
    def is_running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> bool:
        """Publish soon rather than at the end of the interval. Waits for nothing, never raises.

        Returns false where it is too early for that: uWSGI has yet to fork its workers.
        """
        if is_before_fork():
            return False
        loop = self._started()
        if loop is not None:
            with suppress(RuntimeError):  # it has ended in this moment
                loop.call_soon_threadsafe(self._news.set)
        return True

    def say_goodbye(self, worker: str, instance: str, token: str) -> None:
        """Have that row removed as soon as the store can be reached."""
        self._goodbyes.append((worker, instance, token))
        self.wake()

    async def ask(self, what: Callable[[], Coroutine[object, object, T]]) -> T:
        """Await `what()` on the loop of the store, and return or raise what it does.

        Raises:
            RuntimeError: if no thread can be had.
        """
        if is_before_fork():
            raise RuntimeError("the heartbeat store is asked after uWSGI has forked its workers")
        loop = self._started()
        if loop is None:
            raise RuntimeError(self.failure or "no thread for the heartbeat store can be had")
        return await future_on(loop, what(), "cqrs-health store")

    def leave(
        self, seconds: float = EXIT_SECONDS, *, goodbye: bool = True, for_good: bool = False
    ) -> None:
        """Say goodbye, or else publish a last time, close the store, and end the thread.

        Waits no longer than `seconds`, however long the store takes. A later `wake` starts anew,
        unless it left for good: at the end of a process some thread may still beat.
        """
        self._is_gone = for_good
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        with suppress(RuntimeError):  # it has ended in this moment
            loop.call_soon_threadsafe(self._leave, _Ending(seconds, goodbye))
        thread.join(seconds)

    def _started(self) -> AbstractEventLoop | None:
        with self._lock:
            if self.is_running:
                return self._loop
            if self._is_gone:
                return None
            self._prepare()
            try:
                require_threads()
                self._loop, self._thread = start_loop(
                    asyncio.new_event_loop, self._run, "cqrs-health-heartbeats"
                )
            except NoThreadsError as error:
                self._note_failure(str(error))
                return None
            except (OSError, RuntimeError):  # no more files or threads, or the interpreter ends
                return None
            _living.add(self)
            _have_children_leave_too()
            return self._loop

    def _run(self, loop: AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        pause = self._chance()  # processes that start together do not keep step
        while not self._left.is_set():
            interval = publish_interval(self._timeouts())
            self._news.clear()
            await self._try(self._publish(interval * (1 + JITTER)))
            # What is news again and again is published together.
            await self._until(self._left, interval * COALESCED)
            await self._until(self._news, interval * max(pause - COALESCED, 0.0))
            pause = 1 + JITTER * (2 * self._chance() - 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ending.seconds):
                await self._try(self._say_last_words())
                await self._store.close()

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def _try(self, what: Coroutine[object, object, None]) -> None:
        """Await it for as long as a publish may take, and keep what it raised."""
        if self._asking:  # it ignores that it was cut off
            what.close()
            return
        asking = start_task(what, "cqrs-health publish")
        self._asking.add(asking)
        asking.add_done_callback(retrieve)
        asking.add_done_callback(self._asking.discard)
        await asyncio.wait({asking}, timeout=PUBLISH_SECONDS)
        if not asking.done():
            asking.cancel()
            self._note(TimeoutError())
        elif not asking.cancelled():
            self._note(asking.exception())

    def _note(self, error: BaseException | None) -> None:
        self._note_failure(None if error is None else refusal_of(error))

    def _note_failure(self, failure: str | None) -> None:
        if failure is not None and self.failure is None:  # once, not every interval
            _logger.warning("heartbeats cannot be published: %s", failure)
        elif failure is None and self.failure is not None:
            _logger.info("heartbeats are published again")
        self.failure = failure

    async def _publish(self, interval_seconds: float) -> None:
        await self._bid_farewell()
        self._number += 1
        number = self._number
        beats = [beat._replace(publish_number=number) for beat in self._beats(interval_seconds)]
        if beats:
            await self._store.publish(beats)

    async def _bid_farewell(self) -> None:
        while self._goodbyes:
            await self._store.retire(*self._goodbyes[0])
            self._goodbyes.popleft()

    async def _say_last_words(self) -> None:
        if not self._ending.goodbye:
            await self._publish(publish_interval(self._timeouts()))
            return
        beats = self._beats(0.0)
        self._goodbyes.extend((beat.worker, beat.instance, beat.token) for beat in beats)
        await self._bid_farewell()

    def _leave(self, ending: _Ending) -> None:
        self._ending = ending
        self._left.set()
        self._news.set()
        for asking in self._asking:  # it would use up the time that is left
            asking.cancel()


_living: weakref.WeakSet[Publisher] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    """Say goodbye for every worker of this process, unless an exception ends it: see them stale."""
    if not IS_KNOWN:
        return  # a child of a fork that has made no use of us: all of it is the parent's
    error = sys.exception()  # which ends a child of multiprocessing
    crashed = getattr(sys, "last_value", None) is not None
    crashed = crashed or not isinstance(error, SystemExit | None)
    for publisher in list(_living):
        publisher.leave(goodbye=not crashed, for_good=True)


def _have_children_leave_too() -> None:
    """Say goodbye at the end of a process of multiprocessing: a forked one runs no `atexit`."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _leave_all, exitpriority=0)
