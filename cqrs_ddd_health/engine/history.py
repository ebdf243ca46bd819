"""What has been: the recent results of each check, and the last transitions of all components.

Both are rings in the memory of one process: they hold what was found here, whoever asked, and
nothing of it is written anywhere.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from struct import Struct
from typing import NamedTuple

from cqrs_ddd_health.domain.models import ComponentKind, ComponentState
from cqrs_ddd_health.domain.transitions import Transition
from cqrs_ddd_health.runtime.greenlets import RLock

__all__ = ["MAX_RESULTS", "MAX_TRANSITIONS", "PastResult", "Results", "Transitions"]

MAX_RESULTS = 60
"""How many results of one check are kept."""

MAX_TRANSITIONS = 50
"""How many transitions of all components together are kept."""

_STATES: tuple[ComponentState, ...] = ("up", "degraded", "down")
_CODES = {state: code for code, state in enumerate(_STATES)}
_RESULT = Struct("<ddB")  # when, on the monotonic clock; for how long; the state
_FULL = MAX_RESULTS * _RESULT.size
_OVERFULL = _FULL + 20 * _RESULT.size  # those that are too many go together


class PastResult(NamedTuple):
    """How one run of a check ended."""

    at: datetime
    """When, in UTC by the wall clock of now: that it was set meanwhile moves all results alike."""
    state: ComponentState
    """Where it left the check: below its failure threshold a failed run leaves it degraded."""
    latency_seconds: float
    """How long it took."""


class Results:
    """The recent results of one check, in 17 bytes each. Its owner guards it."""

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed = bytearray()

    def add(self, now: float, state: ComponentState, latency_seconds: float) -> None:
        """Keep one more. It stands in the way of every flight: as little as possible is done."""
        packed = self._packed
        packed += _RESULT.pack(now, latency_seconds, _CODES[state])
        if len(packed) > _OVERFULL:
            del packed[:-_FULL]

    def read(self, now: float, at: datetime) -> tuple[PastResult, ...]:
        """Return those that are kept, the oldest first.

        `now` of the monotonic clock is `at` of the wall clock.
        """
        return tuple(
            PastResult(at - timedelta(seconds=now - then), _STATES[code], latency)
            for then, latency, code in _RESULT.iter_unpack(self._packed[-_FULL:])
        )


class Transitions:
    """The last transitions of all components."""

    def __init__(self) -> None:
        self._kept: deque[Transition] = deque(maxlen=MAX_TRANSITIONS)
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child, where nobody is left to open a lock that was held."""
        self._lock = RLock()

    def add(self, transition: Transition) -> None:
        """Keep one more, and no more the oldest."""
        with self._lock:
            self._kept.append(transition)

    def forget(self, name: str, kind: ComponentKind) -> None:
        """Keep none of that component: it is no more."""
        with self._lock:
            left = [one for one in self._kept if (one.name, one.kind) != (name, kind)]
            self._kept = deque(left, MAX_TRANSITIONS)

    def read(self) -> tuple[Transition, ...]:
        """Return those that are kept, the oldest first."""
        with self._lock:
            return tuple(self._kept)
