"""Whether the loops that own the checks still get round: each is asked again and again."""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from .greenlets import running_loop
from .tasks import start_task

__all__ = ["Pulse", "Pulses"]

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.01, 0.25
QUESTIONS_PER_LIMIT = 4
"""How often a loop is asked within the shortest silence that counts."""


class Pulse:
    """How long one loop has not answered. Only the loop that watches counts."""

    def __init__(self, loop: AbstractEventLoop, pause_seconds: float) -> None:
        self.loop: AbstractEventLoop = loop
        self._pause_seconds = pause_seconds
        self._asked = 0
        self._answered = 0
        self._silent_seconds = 0.0

    @property
    def silent_seconds(self) -> float:
        """For how long the loop has owed an answer; 0 while it owes none."""
        return 0.0 if self._answered == self._asked else self._silent_seconds

    async def watch(self) -> None:
        """Ask the loop again and again, until it is cancelled."""
        while True:
            self.ask()
            began = time.monotonic()
            await asyncio.sleep(self._pause_seconds)
            self.see(time.monotonic() - began)

    def ask(self) -> None:
        """Ask the loop for an answer, unless it owes one."""
        if self._answered != self._asked:
            return
        self._asked += 1
        self._silent_seconds = 0.0
        with suppress(RuntimeError):  # it is closed: that is silence too
            self.loop.call_soon_threadsafe(self._answer)

    def see(self, elapsed_seconds: float) -> None:
        """So much later, count the silence.

        A pause that lasted much longer than it should says that this thread did not run either:
        the machine slept, or the process was stopped. The loop gets a fresh chance then.
        """
        self._silent_seconds += min(elapsed_seconds, 2 * self._pause_seconds)

    def _answer(self) -> None:
        self._answered = self._asked


class Pulses:
    """The loops that own the checks of one registry, while they are watched."""

    def __init__(self) -> None:
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the loops stayed with the parent."""
        self._pulses: tuple[Pulse, ...] = ()

    def silent_seconds(self) -> float:
        """Return the longest silence of a loop, other than the one that runs this code."""
        here = running_loop()
        return max(
            (pulse.silent_seconds for pulse in self._pulses if pulse.loop is not here), default=0.0
        )

    @asynccontextmanager
    async def watching(
        self, loop: AbstractEventLoop | None, limit_seconds: float
    ) -> AsyncGenerator[None]:
        """Watch `loop`, if there is one, while the block lasts; `limit_seconds` is a silence."""
        if loop is None:
            yield
            return
        pause = min(max(limit_seconds / QUESTIONS_PER_LIMIT, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        pulse = Pulse(loop, pause)
        task = start_task(pulse.watch(), "cqrs-health pulse")
        self._pulses = (*self._pulses, pulse)
        try:
            yield
        finally:
            self._pulses = tuple(other for other in self._pulses if other is not pulse)
            task.cancel()
            await asyncio.wait({task})
