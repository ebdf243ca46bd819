"""A clock that was given, and may raise, go back, or give what is no time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from cqrs_ddd_health.domain.redaction import class_name
from cqrs_ddd_health.runtime.greenlets import RLock

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["GivenClock"]

T = TypeVar("T")

# Times of these years can be moved by any difference of these seconds.
_MAX_SECONDS = 1.0e10
_YEARS = range(1_000, 9_000)
_LEAP_SECONDS = 1.0e9  # thirty years: no machine sleeps that long


class GivenClock:
    """A clock whose seconds are finite and never go back, and whose wall clock is in UTC.

    What a reading leaves open that is no such thing is taken from the machine's clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._given_monotonic = clock.monotonic
        self._given_now = clock.now
        self._fault = "has no fault yet"
        self._fault_at = -math.inf
        self._last = 0.0
        self._offset = 0.0
        self._last_at = time.monotonic()
        first = self._read(self._given_monotonic, _as_seconds)
        if first is not None:
            self._last = first
        self._is_reliable = first is not None
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child, where nobody is left to open a lock that was held."""
        self._lock = RLock()

    def fault_since(self, began: float) -> str | None:
        """Return what was wrong with the last reading that was wrong, if it was not before then."""
        return self._fault if self._fault_at >= began else None

    def monotonic(self) -> float:
        """Return seconds that never go back, whatever the clock does."""
        with self._lock:
            given = self._read(self._given_monotonic, _as_seconds)
            self._advance(given)
            return self._last

    def now(self) -> datetime:
        """Return the wall clock's time in UTC, the machine's where there is none."""
        given = self._read(self._given_now, _as_utc)
        return datetime.now(UTC) if given is None else given

    def _advance(self, given: float | None) -> None:
        at = time.monotonic()
        elapsed, self._last_at = at - self._last_at, at
        if given is None:
            self._last += elapsed
        elif 0 <= (moved := given + self._offset - self._last) <= _LEAP_SECONDS:
            self._last = given + self._offset
        else:
            if self._is_reliable:  # or else it is only not where the machine's clock stood in
                self._last += elapsed
                self._note("went back" if moved < 0 else "leapt")
            self._offset = self._last - given  # it goes on from here, at its own pace
        self._is_reliable = given is not None

    def _read(
        self, read: Callable[[], object], understood: Callable[[object], T | None]
    ) -> T | None:
        try:
            value = understood(read())
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            self._note(f"raised {class_name(error)}")
            return None
        if value is None:
            self._note("gave what is no time")
        return value

    def _note(self, what: str) -> None:
        self._fault, self._fault_at = what, self._last


def _as_seconds(given: object) -> float | None:
    # A subclass may say one thing and compare as another.
    if isinstance(given, float):
        seconds = float.__float__(given)
    elif isinstance(given, int):
        seconds = float(int.__int__(given))
    else:
        return None
    return seconds if -_MAX_SECONDS <= seconds <= _MAX_SECONDS else None


def _as_utc(given: object) -> datetime | None:
    offset = datetime.utcoffset(given) if isinstance(given, datetime) else None
    if not isinstance(given, datetime) or offset is None:
        return None
    # Plain, for the same reason: tests freeze time with subclasses.
    plain = datetime.combine(datetime.date(given), datetime.time(given), UTC) - offset
    return plain if plain.year in _YEARS else None
