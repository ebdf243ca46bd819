"""Does the event loop get round: how late it wakes those who sleep."""

from __future__ import annotations

import asyncio
import time

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_positive

__all__ = ["EventLoopLagHealthCheck"]

_SLEEPS = 3
_SLEEP_SECONDS = 0.01


class EventLoopLagHealthCheck:
    """Is down when the event loop is more than `max_lag_seconds` late (0.1 s by default).

    Sleeps three times for 10 ms on the loop that asks, and takes the latest awakening. So it sees
    code that blocks the loop now, and a loop that always has too much to do; what blocked it
    between two runs is not seen.

    Register it with `critical=False` to have it only degrade the report.

    Raises:
        InvalidOptionError: if `max_lag_seconds` is not a positive, finite number.
    """

    def __init__(self, *, max_lag_seconds: float = 0.1) -> None:
        self._max_lag_seconds = require_positive("max_lag_seconds", max_lag_seconds)

    async def __call__(self) -> bool:
        """Return whether the loop is in time."""
        return (await self.check()).state == "up"

    async def check(self) -> CheckResult:
        """Return how many seconds the loop was late at the most."""
        lag = max([await _lag_seconds() for _ in range(_SLEEPS)])
        details = {"lag_seconds": lag}
        if lag <= self._max_lag_seconds:
            return CheckResult(details=details)
        message = f"the event loop is more than {self._max_lag_seconds:g} s late"
        return CheckResult(state="down", details=details, message=message)


async def _lag_seconds() -> float:
    # Not the loop's own clock: uvloop reads that once a turn.
    due = time.monotonic() + _SLEEP_SECONDS
    await asyncio.sleep(_SLEEP_SECONDS)
    return max(0.0, time.monotonic() - due)
