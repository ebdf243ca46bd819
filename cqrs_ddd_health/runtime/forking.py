"""Notices that this process is a child of a fork, whoever made it.

`os.fork` tells Python, and Python who registered. A fork in C (by uWSGI, by an extension) is told
to nobody: threads, locks and connections look as they did in the parent, and no thread of ours is
there. So what users call looks first whether this is still the process that it was.
"""

from __future__ import annotations

import mmap
import os
import sys
from _thread import RLock
from collections.abc import Callable
from contextlib import suppress

__all__ = ["IS_KNOWN", "at_fork", "leave_to_the_parent", "new_mark", "notice_fork"]

_WIPE_ON_FORK = 18  # MADV_WIPEONFORK, for which the mmap module has no name


class _PidMark:
    """Is true in the process that has set it, and false in a child that this has forked.

    By the pid, for which the system is asked each time.
    """

    def __init__(self) -> None:
        self._pid: int | None = None

    def __bool__(self) -> bool:
        return self._pid == os.getpid()

    def set(self) -> None:
        """Be true from now on."""
        self._pid = os.getpid()


def new_mark() -> tuple[object, Callable[[], None]]:
    """Return what is true once the function beside it was called, and false in a forked child.

    On Linux that is a byte in a page that the system fills with zeros in each child: to look at it
    takes a twentieth of the time that asking for the pid does.
    """
    if sys.platform == "linux":
        with suppress(Exception):  # an old kernel, a sandbox, a Python without ctypes
            import ctypes

            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)
            return ctypes.c_ubyte.from_buffer(page), lambda: page.__setitem__(0, 1)
    mark = _PidMark()
    return mark, mark.set


IS_KNOWN, _set_known = new_mark()
"""Whether all that is here is this process's own. Each heartbeat asks, so it is no function."""

_begins: list[Callable[[], None]] = []
_locks: dict[int, RLock] = {}
_left_to_the_parent: list[object] = []


def at_fork(begin: Callable[[], None]) -> None:
    """Have `begin` called in each child of a fork, before anything else of ours is done there."""
    _begins.append(begin)


def leave_to_the_parent(what: object) -> None:
    """Keep a loop, or what holds sockets of one, from being collected in a child of a fork.

    It would take its sockets out of the epoll set that the two processes share.
    """
    _left_to_the_parent.append(what)


def notice_fork() -> None:
    """Begin anew if this is a child of a fork in which that was not done."""
    if not IS_KNOWN:
        _begin_once()


def _begin_once() -> None:
    # Of several threads of the child one does it. A lock that the parent held is not the child's.
    with _locks.setdefault(os.getpid(), RLock()):
        if not IS_KNOWN:
            _begin()


def _begin() -> None:
    for begin in _begins:
        begin()
    _set_known()


_set_known()
os.register_at_fork(after_in_child=_begin)
