"""How what a check began comes to its end: within bounds, and with nothing left to be reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["PATIENCE_SECONDS", "close_in_time", "retrieve"]

T = TypeVar("T")

PATIENCE_SECONDS = 1.0
"""How long a good-bye may take before a connection is dropped without one."""


async def close_in_time(close: Callable[[], Awaitable[object]]) -> None:
    """Await `close()`, whatever it raises; give up on one that hangs: its server may be frozen."""
    closing = asyncio.ensure_future(close())
    closing.add_done_callback(retrieve)
    try:
        await asyncio.wait({closing}, timeout=PATIENCE_SECONDS)
    finally:
        closing.cancel()


def retrieve(ended: asyncio.Future[T]) -> None:
    """Look at what a task raised that nobody waits for: asyncio would log that nobody did."""
    if not ended.cancelled():
        ended.exception()
