"""The check of the event loop: it sees what keeps the loop from getting round."""

from __future__ import annotations

import asyncio
import time

import pytest

from cqrs_ddd_health import EventLoopLagHealthCheck, InvalidOptionError

BLOCK_SECONDS = 0.2


async def block() -> None:
    """Wait until the check sleeps, and have it oversleep."""
    await asyncio.sleep(0.001)
    time.sleep(BLOCK_SECONDS)


async def test_a_loop_in_time_is_up_and_says_how_late_it_was() -> None:
    check = EventLoopLagHealthCheck(max_lag_seconds=60)
    result = await check.check()
    lag = result.details["lag_seconds"]
    assert result.state == "up"
    assert isinstance(lag, float)
    assert 0 <= lag < 60
    assert await check()


async def test_a_loop_that_is_blocked_is_down_and_says_how_late_it_was() -> None:
    check = EventLoopLagHealthCheck(max_lag_seconds=BLOCK_SECONDS / 2)
    result, _ = await asyncio.gather(check.check(), block())
    lag = result.details["lag_seconds"]
    assert result.state == "down"
    assert isinstance(lag, float)
    assert lag > BLOCK_SECONDS / 2
    assert result.message == "the event loop is more than 0.1 s late"


async def test_a_call_is_a_bool() -> None:
    check = EventLoopLagHealthCheck(max_lag_seconds=BLOCK_SECONDS / 2)
    answer, _ = await asyncio.gather(check(), block())
    assert answer is False


@pytest.mark.parametrize("lag", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_lag_that_is_none_is_refused(lag: float) -> None:
    with pytest.raises(InvalidOptionError, match="max_lag_seconds"):
        EventLoopLagHealthCheck(max_lag_seconds=lag)
