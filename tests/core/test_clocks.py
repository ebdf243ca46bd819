"""Clocks that were given and do not keep to what clocks promise: reports are made all the same."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.engine.given_clock import GivenClock
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import PATIENCE_SECONDS, SHORT, Told, kind_of, row_of


class Odd:
    """A clock of two functions, the machine's where none is given."""

    def __init__(
        self, monotonic: Callable[[], Any] | None = None, now: Callable[[], Any] | None = None
    ) -> None:
        self.monotonic = monotonic or time.monotonic
        self.now = now or (lambda: datetime.now(UTC))


def raising(error: BaseException) -> Callable[[], float]:
    def read() -> float:
        raise error

    return read


def _leave(*_arguments: object) -> Any:
    raise SystemExit(3)


COMPARISONS = dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__sub__"), _leave)
Number: Any = type("Number", (float,), {**COMPARISONS, "__hash__": None, "__rsub__": _leave})
Moment: Any = type(
    "Moment", (datetime,), {**COMPARISONS, "__hash__": None, "utcoffset": _leave, "date": _leave}
)
BACKWARDS = map(float, itertools.count(0, -1))
TO_AND_FRO = itertools.cycle([100.0, 0.0])
MONOTONIC: dict[str, Callable[[], Any]] = {
    "backwards": lambda: next(BACKWARDS),
    "to and fro": lambda: next(TO_AND_FRO),
    "nan": lambda: math.nan,
    "infinite": lambda: math.inf,
    "huge": lambda: 1e300,
    "vast": lambda: 10**400,
    "nanoseconds": lambda: 10**15 + time.monotonic_ns(),
    "nothing": lambda: None,
    "a text": lambda: "now",
    "raises": raising(OSError()),
    "ends the process": raising(SystemExit(3)),
    "cancelled": raising(asyncio.CancelledError()),
}
NOW: dict[str, Callable[[], Any]] = {
    "naive": lambda: datetime(2026, 1, 1),  # noqa: DTZ001 - that is what is wrong with it
    "the first": lambda: datetime.min.replace(tzinfo=UTC),
    "the last": lambda: datetime.max.replace(tzinfo=UTC),
    "beyond the last": lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    "nothing": lambda: None,
    "a text": lambda: "2026-01-01T00:00:00Z",
    "raises": raising(OSError()),
    "ends the process": raising(SystemExit(3)),
}


async def reported(clock: Odd) -> tuple[str | None, str | None]:
    """Return the kind of failure, and its words, of a check that is well by that clock."""
    registry = HealthRegistry(clock=clock)
    registry.register("check", Told())
    registry.register("sync", lambda: True)
    registry.register("hangs", asyncio.Event().wait, timeout_seconds=SHORT)
    registry.heartbeat("worker")
    registry.heartbeat("another", instance="elsewhere")
    registry.expect("missing")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(registry.report() for _ in range(3)))
        registry.heartbeat("worker")
        await registry.report(deadline_seconds=0)
        report = await registry.report()
    registry.measurements()
    registry.history("check")
    assert kind_of(report, "hangs") in {"timeout", "hung"}
    row = row_of(report)
    return (row.failure.kind, row.failure.message) if row.failure else (None, None)


@pytest.mark.parametrize("name", MONOTONIC)
async def test_seconds_that_are_none_are_said_by_the_row(name: str) -> None:
    kind, message = await reported(Odd(monotonic=MONOTONIC[name]))
    assert kind == "unavailable"
    assert "the clock that was given" in (message or "")


@pytest.mark.parametrize("name", NOW)
async def test_a_wall_clock_that_is_none_is_said_by_the_row(name: str) -> None:
    kind, message = await reported(Odd(now=NOW[name]))
    assert kind == "unavailable"
    assert "the machine's stands in for it" in (message or "")


async def test_a_clock_of_hostile_numbers_is_read_all_the_same() -> None:
    clock = Odd(lambda: Number(time.monotonic()), lambda: Moment.now(UTC))
    assert await reported(clock) == (None, None)


async def test_a_wall_clock_in_another_zone_is_read_as_utc() -> None:
    here = timezone(timedelta(hours=5, minutes=30))
    clock = GivenClock(Odd(now=lambda: datetime(2026, 1, 1, 5, 30, tzinfo=here)))
    assert clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC


def test_what_keeps_its_promises_is_read_as_it_is() -> None:
    given = FakeClock()
    clock = GivenClock(given)
    began = clock.monotonic()
    for seconds in (0, 0.1, 0, 86_400 * 365):
        given.advance(seconds)
        given.jump(-seconds)
        assert clock.monotonic() == given.monotonic()
        assert clock.now() == given.now()
    assert clock.fault_since(began) is None


def test_a_clock_that_went_back_goes_on_from_where_it_was() -> None:
    given = FakeClock()
    clock = GivenClock(given)
    before = clock.monotonic()
    given.advance(-10)
    after = clock.monotonic()
    assert after >= before
    assert clock.fault_since(before) == "went back"
    given.advance(5)
    assert clock.monotonic() == pytest.approx(after + 5)
    assert clock.fault_since(clock.monotonic()) is None


def test_a_clock_that_leapt_by_a_century_goes_on_from_where_it_was() -> None:
    given = FakeClock()
    clock = GivenClock(given)
    before = clock.monotonic()
    given.advance(4e9)
    assert clock.monotonic() < before + PATIENCE_SECONDS
    assert clock.fault_since(before) == "leapt"


def test_a_clock_that_failed_for_once_has_not_gone_back() -> None:
    given, readings = FakeClock(), itertools.count()

    def monotonic() -> float:
        if next(readings) in {0, 2}:
            raise OSError
        return given.monotonic()

    clock = GivenClock(Odd(monotonic=monotonic))  # the first reading fails
    first, second, third = (clock.monotonic() for _ in range(3))
    assert first <= second <= third
    assert clock.fault_since(second) is None
    given.advance(5)
    assert clock.monotonic() == pytest.approx(third + 5)


def test_the_users_interrupt_is_nothing_that_a_clock_raised() -> None:
    readings = itertools.count()

    def interrupted() -> float:
        if next(readings):
            raise KeyboardInterrupt
        return 0.0

    clock = GivenClock(Odd(monotonic=interrupted))
    with pytest.raises(KeyboardInterrupt):
        clock.monotonic()
