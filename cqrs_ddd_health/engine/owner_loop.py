"""Which event loop the application's clients live on: only there may its async checks be asked.

A client that is used on another loop breaks for both: its connections belong to the loop that
opened them. The owner is the first of these that is known and still open:

1. what `running(owner=)` was told, while that block lasts;
2. the loop in which `running()`, and so `HealthServer` or an ASGI lifespan, was entered;
3. the loop on which a report was awaited first;
4. the loop that ran when a check was registered;
5. the loop of an AnyIO worker thread that called, as that of a sync endpoint of FastAPI is.

A loop that was closed owns nothing, and the library's own loops never do. Of several loops of one
kind, one that runs goes before one that does not. `HealthRegistry(own_loop=True)` says that no loop
of the application shares the clients; then the registry's own loop is the owner.
"""

from __future__ import annotations

import threading
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from cqrs_ddd_health.runtime.threads import is_own_loop

__all__ = ["OwnerLoop"]

_Loop: TypeAlias = "weakref.ref[AbstractEventLoop]"


class OwnerLoop:
    """Knows the loops of the application, and which of them is the owner now.

    `own_loop`, if given, returns the loop that always is. The caller holds a lock.
    """

    def __init__(self, own_loop: Callable[[], AbstractEventLoop] | None) -> None:
        self._own_loop = own_loop
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the loops stayed with the parent."""
        self._pinned: tuple[_Loop, ...] = ()
        self._entered: tuple[_Loop, ...] = ()
        self._asked: _Loop | None = None
        self._registered: _Loop | None = None
        self._called: _Loop | None = None

    def seen_on(self, loop: AbstractEventLoop) -> AbstractEventLoop | None:
        """Return the owner, now that a report is awaited on `loop`; None if none is known.

        It may stand still just now.
        """
        if self._own_loop is not None:
            return self._own_loop()
        if self._asked is None or self._asked() is not loop:
            self._asked = _better(self._asked, loop)
        return self._current()

    def _current(self) -> AbstractEventLoop | None:
        for entered in (self._pinned, self._entered):
            if entered and (loop := _first_open(entered)) is not None:
                return loop
        for known in (self._asked, self._registered, self._called):
            if known is not None and (loop := known()) is not None and not loop.is_closed():
                return loop
        return None

    def registered_on(self, loop: AbstractEventLoop) -> None:
        """Note that a check was registered while `loop` ran."""
        self._registered = _better(self._registered, loop)

    def called_from(self, thread: threading.Thread) -> None:
        """Note the loop of the application that the calling thread works for, if it says so."""
        loop = getattr(thread, "loop", None)  # as AnyIO's worker threads do
        if isinstance(loop, AbstractEventLoop):
            self._called = _better(self._called, loop)

    def enter(self, loop: AbstractEventLoop, *, pinned: bool) -> None:
        """Have `loop` be an owner until it is left; one that was pinned goes before the others."""
        if not is_own_loop(loop):
            entered = weakref.ref(loop)
            if pinned:
                self._pinned = (*self._pinned, entered)
            else:
                self._entered = (*self._entered, entered)

    def leave(self, loop: AbstractEventLoop, *, pinned: bool) -> None:
        """Take back one `enter`. The loop is still known as one of the application."""
        if pinned:
            self._pinned = _without(self._pinned, loop)
        else:
            self._entered = _without(self._entered, loop)
        self._asked = _better(self._asked, loop)


def _better(known: _Loop | None, loop: AbstractEventLoop) -> _Loop | None:
    """Return what is known, unless `loop` may take its place: one that runs, of the application."""
    before = None if known is None else known()
    if is_own_loop(loop) or loop.is_closed():
        return known
    if before is None or before.is_closed() or (loop.is_running() and not before.is_running()):
        return weakref.ref(loop)
    return known


def _first_open(loops: Sequence[_Loop]) -> AbstractEventLoop | None:
    alive = [loop for known in loops if (loop := known()) is not None and not loop.is_closed()]
    running = (loop for loop in alive if loop.is_running())
    return next(running, alive[0] if alive else None)


def _without(loops: Sequence[_Loop], loop: AbstractEventLoop) -> tuple[_Loop, ...]:
    """Return them without one mention of that loop: a block may stand in another one."""
    left = list(loops)
    with suppress(ValueError):  # it was entered in the parent of this process
        left.remove(weakref.ref(loop))
    return tuple(left)
