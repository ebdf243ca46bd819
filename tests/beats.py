"""Beats for the tests of heartbeat stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from cqrs_ddd_health import BeatsRead, StoredBeat

T = TypeVar("T")

NAMES = (
    "A",
    "a",
    "a ",
    "a  ",
    " a",
    "ä",
    "a\u0308",  # the same to the eye, and to some collations
    "ß",
    "ss",
    "🩺",
    "👩\u200d⚕",  # with a joiner, which is not printed, and which names may have
    "%s",
    "it's",
    '"quoted"',
    "back\\slash\\",
    "x" * 128,
    "🩺" * 128,
)
"""Names that some database, or some way of quoting, may take for each other."""

GARBAGE_NAMES = ("", " ", "two\nlines", "\u202edrawkcab", "x" * 129)
"""What `require_name` refuses, and a text column takes."""


def beat(
    worker: str = "worker",
    instance: str = "instance",
    token: str = "token",
    publish_number: int = 1,
    *,
    timeout_seconds: float = 60.0,
) -> StoredBeat:
    return StoredBeat(worker, instance, token, publish_number, 1.5, timeout_seconds, 5.0)


def numbers(read: BeatsRead) -> dict[tuple[str, str, str], int]:
    """Which publish of each beat is held."""
    return {held[:3]: held.publish_number for held in read.beats}


def age(read: BeatsRead, held: StoredBeat) -> float:
    """How old a beat is to a reader without history."""
    return held.age_seconds + max(read.server_now - held.stamp, 0.0)


class LoopInThread:
    """An event loop that runs elsewhere."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def loop_in_thread() -> Generator[LoopInThread]:
    loop = LoopInThread()
    try:
        yield loop
    finally:
        loop.end()
