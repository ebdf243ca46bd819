"""Tells listeners of transitions, each in order and on a thread of its own while it has news."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

from .errors import InvalidOptionError
from .transitions import Transition, asked_with, is_logged, log

if TYPE_CHECKING:
    from .protocols import Listener

__all__ = ["Listeners"]

_logger = logging.getLogger("cqrs_ddd_health")

MAX_WAITING = 1_000
"""Transitions that wait for a listener that hangs; beyond, the oldest are dropped and counted."""


class Listeners:
    """Those who want to know of transitions. None of them can hold up or break anything."""

    def __init__(self) -> None:
        self._mailboxes: tuple[_Mailbox, ...] = ()
        self._log = _Mailbox(log)

    @property
    def dropped(self) -> int:
        """How many transitions listeners, or the log, never heard of, for being too slow."""
        return sum(mailbox.dropped for mailbox in (*self._mailboxes, self._log))

    def add(self, listener: Listener) -> None:
        """Tell `listener` of every transition from now on.

        Raises:
            InvalidOptionError: if it is not callable.
        """
        if not callable(listener):
            raise InvalidOptionError(f"a listener must be callable, got {type(listener).__name__}")
        self._mailboxes = (*self._mailboxes, _Mailbox(listener))

    def remove(self, listener: Listener) -> None:
        """Tell it no more; do nothing if it was not told before."""
        self._mailboxes = tuple(box for box in self._mailboxes if box.listener != listener)

    def tell(self, transition: Transition, context: Context) -> None:
        """Pass on a transition that was seen for somebody in that context. Does not wait."""
        for mailbox in self._mailboxes:
            mailbox.put(transition)
        if is_logged(transition):  # a handler may hang as any listener may
            self._log.put(transition, asked_with(context))

    def forget_threads(self) -> None:
        """Start anew in a forked child: the threads, and what they had to tell, stayed behind."""
        self._mailboxes = tuple(_Mailbox(mailbox.listener) for mailbox in self._mailboxes)
        self._log = _Mailbox(log)


class _Mailbox:
    """What one reader has not read yet, each item as the arguments of its call."""

    def __init__(self, listener: Callable[..., None]) -> None:
        self.listener = listener
        self.dropped = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Transition, *tuple[object, ...]]] = deque()
        self._reading = False

    def put(self, transition: Transition, *more: object) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((transition, *more))
            if self._reading:
                return
            self._reading = True
        try:
            threading.Thread(target=self._read, name="cqrs-health-listener", daemon=True).start()
        except RuntimeError:  # no thread to be had: the next transition tries again
            self._reading = False

    def _read(self) -> None:
        while (item := self._next()) is not None:
            try:
                self.listener(*item)
            except BaseException as error:  # sys.exit() would leave the rest of its news unread
                with suppress(Exception):  # of a handler that fails too
                    _logger.warning(
                        "a listener failed on the transition of %r: %s",
                        item[0].name,
                        type(error).__name__,
                        exc_info=_logger.isEnabledFor(logging.DEBUG),  # it may hold secrets
                    )

    def _next(self) -> tuple[Transition, *tuple[object, ...]] | None:
        with self._lock:
            if not self._waiting:
                self._reading = False
                return None
            return self._waiting.popleft()
