"""Where blocking work goes: daemon threads, so that nothing of ours keeps the interpreter alive.

`asyncio.to_thread` will not do: its threads are joined at exit, and a handful of hung calls fill
the executor that the whole application shares.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from typing import NoReturn, Protocol, TypeVar

__all__ = [
    "DaemonThreads",
    "LoopThread",
    "Occupant",
    "Occupied",
    "needs_loop",
    "occupant",
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
        self._lock = threading.Lock()
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
            threading.Thread(
                target=self._work, args=(job,), name="cqrs-health", daemon=True
            ).start()
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
    def hold(self) -> None: ...
    def release(self) -> None: ...


class Occupant(Protocol):
    """Whose flight the running code is part of."""

    @property
    def flight(self) -> Occupied | None: ...


occupant: ContextVar[Occupant | None] = ContextVar("cqrs_health_occupant", default=None)
"""The check that the running code belongs to, so that its threads count as part of it."""

_default_threads = DaemonThreads(limit=256)
os.register_at_fork(after_in_child=_default_threads.reset)


async def run_blocking(call: Callable[[], T]) -> T:
    """Return what `call` returns, run on a daemon thread.

    For checks with a blocking client. Cancellation is obeyed at once although the thread goes on;
    the check that it belongs to counts as hung until the thread has ended, so that a hung call
    never piles up threads. Whatever `call` raises, `SystemExit` too, is raised here.
    """
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
        result = None if given_up else _captured(call)
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


def needs_loop(error: RuntimeError) -> bool:
    """Whether a call failed for want of an event loop, which asyncio says in words only."""
    return "event loop" in str(error)


def _captured(call: Callable[[], T]) -> Callable[[], T]:
    """Run `call` and return a function that returns or raises what it did."""
    try:
        value = call()
    except BaseException as error:  # a thread may not let SystemExit or Ctrl-C look-alikes escape
        return _raising(error)
    return lambda: value


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def again() -> NoReturn:
        raise error

    return again


def _deliver(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


class LoopThread:
    """An event loop on a daemon thread, for callers that have none. Started when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run(self, call: Callable[[], Coroutine[None, None, T]]) -> T:
        """Await `call()` on the loop of the thread and return or raise what it does."""
        future = asyncio.run_coroutine_threadsafe(call(), self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a Ctrl-C here must not leave the asker waiting over there
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self.loop.run_forever, name="cqrs-health-loop", daemon=True
                ).start()
            return self.loop
