"""Tells readers what is new, each in order and on threads of ours, so that none holds up who tells.

A reader is foreign code: a listener, or the handlers of a log. It may raise, and it may hang.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from .forking import at_fork
from .greenlets import RLock, start_thread

__all__ = ["MAX_THREADS", "MAX_WAITING", "Readers", "warn"]

T = TypeVar("T")

MAX_WAITING = 1_000
"""What waits for a reader that hangs; beyond, the oldest is dropped and counted."""

MAX_THREADS = 64
"""How many readers are called at a time: so many have to hang before the others wait for them."""

EXIT_SECONDS = 0.5
"""How long the exit of the process waits for the log."""


class _Reader(Generic[T]):
    """One who reads, and how far."""

    __slots__ = ("call", "dropped", "gone", "place")

    def __init__(self, call: Callable[[T], None], place: int) -> None:
        self.call = call
        self.place = place
        self.dropped = 0
        self.gone = False


class Readers(Generic[T]):
    """Those who read the same news. Each stands in one place: idle, ready for its turn, or busy.

    What a reader raises is passed to `failed`, which raises nothing, on the same thread.
    """

    def __init__(self, failed: Callable[[T, BaseException], None] | None = None) -> None:
        self._failed = failed
        self._all: list[_Reader[T]] = []
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the threads, and what they had to tell, stayed behind."""
        # Who tells may be a signal handler that interrupts who tells.
        self._lock = RLock()
        self._news: deque[T] = deque(maxlen=MAX_WAITING)
        self._told = 0
        self._threads = 0
        self._busy = 0
        self._ready: deque[_Reader[T]] = deque()
        self._all = [_Reader(reader.call, 0) for reader in self._all]
        self._idle = list(self._all)

    @property
    def dropped(self) -> int:
        """How much readers never read, for being too slow."""
        with self._lock:
            first = self._told - len(self._news)
            return sum(reader.dropped + max(first - reader.place, 0) for reader in self._all)

    @property
    def is_reading(self) -> bool:
        """Whether something was told that some reader has not read yet, or reads now."""
        with self._lock:
            return bool(self._ready or self._busy)

    def add(self, call: Callable[[T], None]) -> None:
        """Have `call` read what is told from now on."""
        with self._lock:
            reader = _Reader(call, self._told)
            self._all.append(reader)
            self._idle.append(reader)

    def remove(self, call: Callable[[T], None]) -> None:
        """Tell it no more; do nothing if it was not told before."""
        # Compared outside the lock: what is equal to it may be the business of foreign code.
        gone = [reader for reader in tuple(self._all) if reader.call == call]
        with self._lock:
            for reader in gone:
                reader.gone = True
            self._all = [reader for reader in self._all if not reader.gone]
            self._idle = [reader for reader in self._idle if not reader.gone]

    def tell(self, news: T) -> None:
        """Tell all readers, on other threads. Takes as long for one as for thousands of them."""
        with self._lock:
            if not self._all:
                return
            self._news.append(news)
            self._told += 1
            self._ready.extend(self._idle)
            self._idle.clear()
            wanted = self._wants_thread()
        if wanted:
            self._start_thread()

    def _wants_thread(self) -> bool:
        """Whether nobody is free to take the next turn, and one more may be had; count it in."""
        wanted = bool(self._ready) and self._threads <= self._busy < MAX_THREADS
        self._threads += wanted
        return wanted

    def _start_thread(self) -> None:
        is_started = False
        try:
            with suppress(RuntimeError):  # none to be had: with the next news it is tried again
                start_thread(self._work, "cqrs-health-listener")
                is_started = True
        finally:
            if not is_started:
                with self._lock:
                    self._threads -= 1

    def _work(self) -> None:
        while (turn := self._next_turn()) is not None:
            reader, news = turn
            try:
                reader.call(news)
            except BaseException as error:  # sys.exit() would leave the rest of the news unread
                if self._failed is not None:
                    self._failed(news, error)
            self._end_turn(reader)

    def _next_turn(self) -> tuple[_Reader[T], T] | None:
        with self._lock:
            reader = self._next_reader()
            if reader is None:
                self._threads -= 1
                if not self._busy:  # all have read everything
                    self._news.clear()
                return None
            self._busy += 1
            turn = reader, self._read(reader)
            # This one may hang: the others are not to wait for it.
            wanted = self._wants_thread()
        if wanted:
            self._start_thread()
        return turn

    def _next_reader(self) -> _Reader[T] | None:
        while self._ready:
            reader = self._ready.popleft()
            if not reader.gone:
                return reader
        return None

    def _read(self, reader: _Reader[T]) -> T:
        first = self._told - len(self._news)
        missed = max(first - reader.place, 0)
        reader.dropped += missed
        reader.place += missed + 1
        return self._news[reader.place - 1 - first]

    def _end_turn(self, reader: _Reader[T]) -> None:
        with self._lock:
            self._busy -= 1
            if not reader.gone:
                (self._ready if reader.place < self._told else self._idle).append(reader)


class _Warning(NamedTuple):
    """What is to be logged."""

    message: str
    arguments: tuple[object, ...]
    error: BaseException | None


_logger = logging.getLogger("cqrs_ddd_health")


def warn(message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log a warning, on a thread of ours: who has to say something neither waits nor fails.

    `message` and `arguments` are as `logging` takes them; the traceback of `error`, which may hold
    secrets, is logged only where the logger `cqrs_ddd_health` takes debug records.
    """
    shown = error if error is not None and _logger.isEnabledFor(logging.DEBUG) else None
    _warnings.tell(_Warning(message, arguments, shown))


def _log(warning: _Warning) -> None:
    _logger.warning(warning.message, *warning.arguments, exc_info=warning.error)


# That a log fails could only be said to that log.
_warnings: Readers[_Warning] = Readers()
_warnings.add(_log)
at_fork(_warnings.begin_process)


@atexit.register
def _wait_for_the_log() -> None:
    """Let the log have what a short process had to say, unless it hangs."""
    give_up_at = time.monotonic() + EXIT_SECONDS
    while _warnings.is_reading and time.monotonic() < give_up_at:
        time.sleep(0.001)
