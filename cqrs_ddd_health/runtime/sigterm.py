"""SIGTERM, held back for a while: who must know is told at once, the handler that was there later.

Signals belong to the process, so one object here has the state of all of it. A handler may be in
either of two places: in `signal.signal`, or in a loop, which learns of a signal by a byte on the
file descriptor of `signal.set_wakeup_fd`. Over the one a handler is put, before the other a socket.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import socket
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from cqrs_ddd_health.errors import DrainError

from .forking import at_fork
from .readers import warn

__all__ = ["Hold", "hold", "keep_hold", "release"]

_Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"

_NOWHERE = -1
_BYTE = bytes([signal.SIGTERM])


class Hold:
    """Whom to tell of a SIGTERM, and how many seconds it is held back after that."""

    def __init__(self, tell: Callable[[], None], seconds: float) -> None:
        self.tell = tell
        self.seconds = seconds


class _Link:
    """The handler that is put over another one."""

    def __init__(self, previous: _Handler) -> None:
        self.previous = previous

    def __call__(self, sign: int, frame: FrameType | None) -> None:
        _process.notice_fork()
        if not _process.holds_back(self):
            self._pass_on(sign, frame)

    def _pass_on(self, sign: int, frame: FrameType | None) -> None:
        if callable(self.previous):
            _process.tell_loop(self)
            self.previous(sign, frame)
        elif self.previous == signal.SIG_DFL:
            signal.signal(sign, signal.SIG_DFL)
            signal.raise_signal(sign)


class _Wakeup:
    """Stands before the file descriptor that wakes a loop for signals, and keeps SIGTERM from it.

    What comes is passed on by the loop itself, which it wakes in that one's stead. That Python's
    own handlers have run by then is what both asyncio and uvloop rely on too.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._target = _NOWHERE  # the loop's own, which lives as long as it
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._own = self._writing.fileno()
        loop.add_reader(self._reading, self._forward)

    def take(self) -> None:
        """Stand before what is there now; where nothing is, no loop wants to know of signals."""
        # Never without one in between: a signal that comes just then would be lost to the loop.
        found = signal.set_wakeup_fd(self._own, warn_on_full_buffer=False)
        if found != self._own:
            self._target = found
        if self._target == _NOWHERE:
            signal.set_wakeup_fd(_NOWHERE)

    def tell(self) -> None:
        """Have the loop know of a SIGTERM, if it would have known without us."""
        if self._is_in_place():
            self._write(_BYTE)

    def give_back(self) -> None:
        """Leave the place to the loop, unless somebody else has taken it."""
        if self._is_in_place():
            signal.set_wakeup_fd(self._target, warn_on_full_buffer=False)
            with suppress(BlockingIOError):  # nothing has come
                self._forward()

    def close(self) -> None:
        """Give back and be gone."""
        self.give_back()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._reading)
        self.abandon()

    def abandon(self) -> None:
        """Close the sockets only: a forked child shares the loop's selector with its parent."""
        self._reading.close()
        self._writing.close()

    def _is_in_place(self) -> bool:
        found = signal.set_wakeup_fd(self._own, warn_on_full_buffer=False)
        if found != self._own:
            signal.set_wakeup_fd(found, warn_on_full_buffer=False)
        return found == self._own

    def _forward(self) -> None:
        self._write(self._reading.recv(4_096).replace(_BYTE, b""))

    def _write(self, signs: bytes) -> None:
        with suppress(BlockingIOError):  # full: it has enough to wake up for
            os.write(self._target, signs)


class _Process:
    """What this process does at a SIGTERM. Only its main thread changes that."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self._link: _Link | None = None
        self._wakeup: _Wakeup | None = None
        self._told = False
        self._is_owed = False
        self._released = threading.Event()
        self._pid = os.getpid()

    def join(self, one: Hold) -> None:
        """Tell this one too, at once if the process is leaving already."""
        self.holds.append(one)
        if self._told:
            one.tell()

    def holds_back(self, link: _Link) -> bool:
        """Whether a signal ends here for now: it is the first, and `link` is over all handlers."""
        # In a signal handler: what takes a lock may wait for the very code that it interrupts.
        if self._told or link is not self._link:
            self._is_owed = False
            return False
        self._told = True
        for one in self.holds:
            one.tell()
        seconds = max((one.seconds for one in self.holds), default=0.0)
        self._is_owed = seconds > 0 and _comes_again(self._released, seconds)
        return self._is_owed

    def tell_loop(self, link: _Link) -> None:
        """Give the loop what was kept from it, if `link` was over all handlers."""
        if link is self._link and self._wakeup is not None:
            self._wakeup.tell()

    def take(self, handler: _Handler) -> None:
        """Be over this handler, which is the one of now, and before the wakeup of the loop."""
        if handler is not self._link:
            self._link = _Link(handler)
            signal.signal(signal.SIGTERM, self._link)
        loop = _running_loop()
        if self._wakeup is not None and self._wakeup.loop is not loop:
            self._wakeup.close()
            self._wakeup = None
        if loop is not None:
            self._wakeup = self._wakeup or _Wakeup(loop)
            self._wakeup.take()

    def give_back(self) -> None:
        """Have things be as they were, but for what others have changed meanwhile.

        A signal that is held back just then takes its course: nobody would send it again.
        """
        is_owed, self._is_owed = self._is_owed, False
        self._put_back_handler()
        self._told = False
        self._released.set()
        self._released = threading.Event()
        if self._wakeup is not None:
            self._wakeup.close()
            self._wakeup = None
        if is_owed:
            signal.raise_signal(signal.SIGTERM)

    def notice_fork(self) -> None:
        """Start anew if this is a forked child. Only the main thread can, when it comes here."""
        if self._pid != os.getpid() and _is_main_thread():
            self._pid = os.getpid()
            self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: what it does at a SIGTERM is its own business.

        It holds it back again once it is asked for a report: then it is a server of its own.
        """
        self._put_back_handler()
        self._told = self._is_owed = False
        self._released = threading.Event()
        if self._wakeup is not None:
            self._wakeup.give_back()
            self._wakeup.abandon()
            self._wakeup = None

    def _put_back_handler(self) -> None:
        link, self._link = self._link, None
        current: object = signal.getsignal(signal.SIGTERM)
        if link is not None and current is link:
            signal.signal(signal.SIGTERM, link.previous)


_process = _Process()
at_fork(_process.notice_fork)


def hold(one: Hold) -> None:
    """Hold SIGTERM back from now on, for the longest of all that do.

    The second one, and the first after its time, go to the handler that was there. On a loop of
    another thread nothing is held: a server there, as test clients run one, gets no signal at all.

    Raises:
        DrainError: outside the main thread and any loop, or where Python does not handle SIGTERM.
    """
    if not _is_main_thread():
        if _running_loop() is None:
            raise DrainError("SIGTERM is only handled in the main thread: call it there")
        warn("SIGTERM does not drain here: this loop is not in the main thread")
        return
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None:
        raise DrainError("something other than Python handles SIGTERM in this process")
    _process.notice_fork()
    _process.join(one)
    _process.take(handler)


def keep_hold() -> None:
    """Take the place again that a server took which was started later. Does nothing if not held."""
    if _process.holds and _is_main_thread():
        _process.notice_fork()
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:
            _process.take(handler)


def release(one: Hold) -> None:
    """Hold SIGTERM back no more for this one. Does nothing if it is not held.

    Raises:
        DrainError: outside the main thread.
    """
    if one not in _process.holds:
        return
    if not _is_main_thread():
        raise DrainError("the handler of SIGTERM can only be put back in the main thread")
    _process.notice_fork()
    _process.holds.remove(one)
    if not _process.holds:
        _process.give_back()


def _comes_again(released: threading.Event, seconds: float) -> bool:
    """Have the signal come again after that time, and return whether it will."""
    try:
        _thread.start_new_thread(_send_again, (released, seconds))  # `Thread.start` takes locks
    except RuntimeError:  # there is no thread to be had: better now than never
        return False
    return True


def _send_again(released: threading.Event, seconds: float) -> None:
    main = threading.main_thread().ident
    if not released.wait(min(seconds, threading.TIMEOUT_MAX)) and main is not None:
        signal.pthread_kill(main, signal.SIGTERM)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _running_loop() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
