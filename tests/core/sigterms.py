"""A server that has a handler of SIGTERM, and how to send it one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from tests.core.actors import PATIENCE_SECONDS

__all__ = ["LONG", "SOON", "Server", "terminate", "until"]

LONG = 3_600.0
SOON = 0.05


class Server:
    """A handler as servers have them; it counts the signals that it got."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.signals: list[int] = []
        self._before = before

    def __call__(self, sign: int, _frame: FrameType | None = None) -> None:
        self._before()
        self.signals.append(sign)

    def install(self) -> Server:
        signal.signal(signal.SIGTERM, self)
        return self


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def until(condition: Callable[[], bool]) -> None:
    """Wait in the main thread, where handlers run, without a loop."""
    woken = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if condition():
            return
        woken.wait(0.005)
    raise AssertionError("it did not come true")
