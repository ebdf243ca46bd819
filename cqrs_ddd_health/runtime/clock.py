"""The clocks of this machine, and how what is done again and again is spread over time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

__all__ = ["JITTER", "SystemClock", "at_random"]

JITTER = 0.1
"""By which part of itself the interval between two background runs varies, up and down."""

at_random: Callable[[], float] = random.SystemRandom().random
"""From 0 to 1. The generator of the `random` module is the application's, which may have seeded it,
and after a fork one of our own would say the same in each child."""


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.now: Callable[[], datetime] = partial(datetime.now, UTC)
