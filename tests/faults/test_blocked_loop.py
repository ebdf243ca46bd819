"""A loop that was blocked, and what had its answer in time meanwhile."""

from __future__ import annotations

import asyncio
import time

from cqrs_ddd_health import HealthRegistry


async def test_a_check_that_was_done_in_time_is_not_failed_by_a_loop_that_was_late() -> None:
    """Row 13. The loop is blocked past the timeout of a check that has its answer by then."""

    async def blocks() -> bool:
        await asyncio.sleep(0)
        time.sleep(0.3)
        return True

    async def innocent() -> bool:
        await asyncio.sleep(0.01)
        return True

    registry = HealthRegistry()
    registry.register("blocks", blocks, timeout_seconds=5)
    registry.register("innocent", innocent, timeout_seconds=0.1)
    registry.register("in a thread", lambda: True, timeout_seconds=0.1)
    assert await registry.check_all() == {"blocks": "up", "innocent": "up", "in a thread": "up"}
