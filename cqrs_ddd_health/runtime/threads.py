"""Where blocking work goes: daemon threads, so that nothing of ours keeps the interpreter alive.

`asyncio.to_thread` will not do: its threads are joined at exit, and a handful of hung calls fill
the executor that the whole application shares.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from inspect import iscoroutine
from typing import NoReturn, Protocol, TypeVar

from .cancellation import PATIENCE_SECONDS, end_loop
from .forking import at_fork, leave_to_the_parent, notice_fork
from .greenlets import Joinable, RLock, start_loop, start_thread
from .tasks import wait_on

__all__ = [
    "DaemonThreads",
    "LoopThread",
    "Occupant",
    "Occupied",
    "OwnerLoopError",
    "is_own_loop",
    "needs_loop",
    "occupant",
    "own_loop",
    "raising",
    "require_owner_loop",
    "run_blocking",
    "run_on",
]

T = TypeVar("T")


class DaemonThreads:
    """Runs calls on daemon threads, at most `limit` at a time; further ones wait their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Start anew in a forked child: the threads stayed with the parent."""
        self._lock = RLock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return len(self._waiting)

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, on a thread as soon as one may be had."""
        with self._lock:
            if self._running >= self._limit:
                self._waiting.append(job)
                return
            self._running += 1
        try:
            start_thread(lambda: self._work(job), "cqrs-health")
        except BaseException:  # no thread to be had: the seat must not stay taken
            with self._lock:
                self._running -= 1
            raise

    def _work(self, job: Callable[[], None]) -> None:
        next_job: Callable[[], None] | None = job
        while next_job is not None:
            next_job()
            with self._lock:
                next_job = self._waiting.popleft() if self._waiting else None
                self._running -= next_job is None


class Occupied(Protocol):
    """What a blocking call keeps occupied until it ends, however long ago its caller gave up."""

    @property
    def threads(self) -> DaemonThreads: ...
    @property
    def may_await(self) -> bool: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def blame(self, error: BaseException) -> None: ...


class Occupant(Protocol):
    """Whose flight the running code is part of."""

    @property
    def flight(self) -> Occupied | None: ...


occupant: ContextVar[Occupant | None] = ContextVar("cqrs_health_occupant", default=None)
"""The check that the running code belongs to, so that its threads count as part of it."""

_default_threads = DaemonThreads(limit=256)
at_fork(_default_threads.reset)


async def run_blocking(call: Callable[[], T]) -> T:
    """Return what `call` returns, run on a daemon thread.

    For checks with a blocking client. Cancellation is obeyed at once although the thread goes on;
    the check that it belongs to counts as hung until the thread has ended, so that a hung call
    never piles up threads. Whatever `call` raises, `SystemExit` too, is raised here.
    """
    notice_fork()
    check = occupant.get()
    flight = check.flight if check is not None else None
    return await run_on(_default_threads if flight is None else flight.threads, call, flight)


async def run_on(
    threads: DaemonThreads, call: Callable[[], T], flight: Occupied | None = None
) -> T:
    """Do as `run_blocking` on one of these threads, on behalf of that flight or of none."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Callable[[], T]] = loop.create_future()

    def job() -> None:
        given_up = answer.done()  # while it waited for a thread
        result = None if given_up else _captured(call, flight)
        if flight is not None:
            flight.release()
        if result is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_deliver, answer, result)

    if flight is not None:
        flight.hold()
    try:
        threads.submit(job)
    except BaseException:
        if flight is not None:
            flight.release()
        raise
    return (await answer)()


class OwnerLoopError(Exception):
    """Raised in a run that turns out to need the application's loop, and is on another one."""


def require_owner_loop(awaitable: object = None) -> None:
    """Go on only where a check may use what belongs to a loop, as this `awaitable` of it may.

    Raises:
        OwnerLoopError: on any loop but the one that owns the application's clients.
    """
    check = occupant.get()
    flight = check.flight if check is not None else None
    if flight is not None and not flight.may_await:
        if iscoroutine(awaitable):
            awaitable.close()  # it is made anew where it may be awaited
        raise OwnerLoopError


def needs_loop(error: BaseException) -> bool:
    """Whether a call failed for want of an event loop, which asyncio says in words only."""
    # Nothing of a class of the application is asked for its words here: they may block, or raise.
    return type(error) is RuntimeError and any(
        type(word) is str and "event loop" in word for word in error.args
    )


def _captured(call: Callable[[], T], flight: Occupied | None) -> Callable[[], T]:
    """Run `call` and return a function that returns or raises what it did."""
    try:
        value = call()
    except BaseException as error:  # a thread may not let SystemExit or Ctrl-C look-alikes escape
        if flight is not None:
            flight.blame(error)
        return raising(error)
    return lambda: value


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """Return a function that raises it."""

    def again() -> NoReturn:
        raise error

    return again


def _deliver(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


_own_loops: weakref.WeakSet[AbstractEventLoop] = weakref.WeakSet()


def own_loop() -> AbstractEventLoop:
    """Return a new loop that is the library's: no client of the application lives on it."""
    loop = asyncio.new_event_loop()
    _own_loops.add(loop)
    return loop


def is_own_loop(loop: AbstractEventLoop) -> bool:
    """Whether it is one of the library's own."""
    return loop in _own_loops


class LoopThread:
    """An event loop on a daemon thread, for callers that have none.

    Started when first used, and ended by `close` or with its last reference. Used again, it starts
    anew.
    """

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the thread stayed with the parent."""
        if self._loop is not None:
            leave_to_the_parent(self._loop)
        self._lock = RLock()
        self._loop = None
        self._thread: Joinable | None = None
        self._users = 0
        self._leaving = False

    def run(self, call: Callable[[], Coroutine[None, None, T]]) -> T:
        """Await `call()` on the loop of the thread and return or raise what it does."""
        with self._lock:
            loop = self._started()
            self._users += 1
        try:
            return wait_on(loop, call(), "cqrs-health report")
        finally:
            with self._lock:
                self._users -= 1
                if self._leaving and not self._users:
                    self._stop()

    def started(self) -> AbstractEventLoop:
        """Return its loop, which runs from now on."""
        with self._lock:
            return self._started()

    def close(self) -> None:
        """End the thread and close its loop; the last caller does so who still waits for an answer.

        Blocks until that is done, if nobody does, and a few seconds at the most.
        """
        with self._lock:
            self._leaving = self._users > 0
            thread = None if self._leaving else self._stop()
        if thread is not None:
            thread.join(2 * PATIENCE_SECONDS)

    def _started(self) -> AbstractEventLoop:
        if self._loop is None:
            loop, thread = start_loop(own_loop, _run_loop, "cqrs-health-loop")
            weakref.finalize(self, _stop_loop, loop, os.getpid()).atexit = False
            self._loop, self._thread = loop, thread
        return self._loop

    def _stop(self) -> Joinable | None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        self._leaving = False
        if loop is not None:
            _stop_loop(loop, os.getpid())
        return thread


def _run_loop(loop: AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        end_loop(loop)


def _stop_loop(loop: AbstractEventLoop, pid: int) -> None:
    if pid == os.getpid():  # in a forked child it is the parent's
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(loop.stop)
