"""Tells listeners, and the log, of transitions."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from cqrs_ddd_health.domain.redaction import class_name
from cqrs_ddd_health.domain.transitions import Transition, asked_with, is_logged, log
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.readers import Readers, warn

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Listener

__all__ = ["Listeners"]


class _Logged(NamedTuple):
    """A transition that the log takes, and what it is to say of whoever asked."""

    transition: Transition
    asked_with: Mapping[str, object]


class Listeners:
    """Those who want to know of transitions. None of them can hold up or break anything."""

    def __init__(self) -> None:
        self._listeners: Readers[Transition] = Readers(_complain)
        # By itself: of most transitions the log hears nothing, and then needs no thread.
        self._log: Readers[_Logged] = Readers()
        self._log.add(_log)

    @property
    def dropped(self) -> int:
        """How many transitions listeners, or the log, never heard of, for being too slow."""
        return self._listeners.dropped + self._log.dropped

    def add(self, listener: Listener) -> None:
        """Tell `listener` of every transition from now on.

        Raises:
            InvalidOptionError: if it is not callable.
        """
        if not callable(listener):
            raise InvalidOptionError(f"a listener must be callable, got {type(listener).__name__}")
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Tell it no more; do nothing if it was not told before."""
        self._listeners.remove(listener)

    def tell(self, transition: Transition, context: Context) -> None:
        """Pass on a transition that was seen for somebody in that context. Does not wait."""
        self._listeners.tell(transition)
        if is_logged(transition):  # a handler may hang as any listener may
            self._log.tell(_Logged(transition, asked_with(context)))

    def begin_process(self) -> None:
        """Start anew in a forked child: the threads, and what they had to tell, stayed behind."""
        self._listeners.begin_process()
        self._log.begin_process()


def _complain(transition: Transition, error: BaseException) -> None:
    warn(
        "a listener failed on the transition of %r: %s",
        transition.name,
        class_name(error),
        error=error,
    )


def _log(logged: _Logged) -> None:
    log(logged.transition, logged.asked_with)
