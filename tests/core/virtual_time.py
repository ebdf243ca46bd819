"""An event loop whose time passes as fast as it has nothing else to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: what the loop would sleep is added to its time."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop, and the clock that a registry on it goes by."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed

    monotonic = time

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time())


def run(main: Coroutine[object, object, T], loop: VirtualLoop) -> T:
    """Run `main` to its end on that loop, and close it."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
