"""The registries of one process: the default one, and the parts that a fork starts anew."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["Instances"]


class _Forked(Protocol):
    """What a child of a fork has to put right before it is used there."""

    def begin_process(self) -> None: ...


R = TypeVar("R")


class Instances(Generic[R]):
    """Which one is the default, made when first asked for, and which there are."""

    def __init__(self) -> None:
        self._default: R | None = None
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[_Forked] = weakref.WeakSet()

    def add(self, forked: _Forked) -> None:
        """Have it start anew in a child; it is forgotten with its last other reference."""
        self._all.add(forked)

    def default(self, make: Callable[[], R]) -> R:
        """Return the default one; the first of all who ask has it made."""
        if self._default is None:
            with self._lock:
                if self._default is None:
                    self._default = make()
                return self._default
        return self._default

    def exchange(self, instance: R | None) -> R | None:
        """Make it the default one and return the one before, if there was one."""
        with self._lock:
            before, self._default = self._default, instance
        return before

    def begin_process(self) -> None:
        """Start anew in a forked child, where nobody is left to open a lock that was held."""
        self._lock = threading.Lock()
        for forked in list(self._all):
            forked.begin_process()
