"""How old an answer may be, how long an asker waits, and when a failure counts."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from cqrs_ddd_health import CheckOptions, HealthRegistry, InvalidOptionError
from cqrs_ddd_health.runtime.clock import SystemClock
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import (
    SHORT,
    Gated,
    Stubborn,
    Told,
    eventually,
    kind_of,
    row_of,
    slot_of,
    waiting,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> HealthRegistry:
    return HealthRegistry(clock=clock)


# --- max_age_seconds


async def test_without_a_max_age_every_report_asks_anew(registry: HealthRegistry) -> None:
    check = registry.register("check", Told())
    await registry.report()
    await registry.report()
    assert check.calls == 2


async def test_an_outcome_that_is_young_enough_is_taken_for_an_answer(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    check = registry.register("check", Told())
    await registry.report(max_age_seconds=10)
    clock.advance(9)
    await registry.report(max_age_seconds=10)
    assert check.calls == 1
    clock.advance(2)
    await registry.report(max_age_seconds=10)
    assert check.calls == 2


async def test_the_age_of_an_outcome_does_not_depend_on_the_wall_clock(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    check = registry.register("check", Told())
    for jump in (0, 86_400, -2 * 86_400):
        clock.jump(jump)
        await registry.report(max_age_seconds=10)
    assert check.calls == 1


async def test_only_the_checks_whose_outcome_is_too_old_are_asked(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    old = registry.register("old", Told())
    await registry.report()
    clock.advance(8)
    young = registry.register("young", Told())
    await registry.report(max_age_seconds=9)
    clock.advance(5)
    await registry.report(max_age_seconds=9)
    assert (old.calls, young.calls) == (2, 1)


async def test_a_row_says_when_it_was_checked_and_how_long_that_took(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    @registry.register("check")
    async def takes_three_seconds() -> bool:
        clock.advance(3)
        return True

    began = clock.now()
    report = await registry.report()
    row = row_of(report)
    assert row.latency_seconds == 3
    assert row.checked_at == report.timestamp == began + timedelta(seconds=3)
    assert report.duration_seconds == 3
    assert callable(takes_three_seconds)


async def test_a_state_is_dated_from_its_first_outcome(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    check = registry.register("check", Told())
    up_since = row_of(await registry.report()).since
    clock.advance(10)
    assert row_of(await registry.report()).since == up_since
    check.outcome = False
    row = row_of(await registry.report())
    assert row.since == up_since + timedelta(seconds=10)
    clock.advance(10)
    again = row_of(await registry.report())
    assert (again.since, again.failure) == (row.since, row.failure)


# --- deadline_seconds


async def test_a_check_without_an_outcome_is_pending_at_the_deadline(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    gated = registry.register("check", Gated())
    report = await registry.report(deadline_seconds=SHORT)
    row = row_of(report)
    assert row.failure is not None
    assert (row.state, row.failure.kind, row.failure.since) == ("down", "pending", clock.now())
    assert (row.checked_at, row.latency_seconds, row.consecutive_failures) == (None, None, 0)
    assert report.status == "unhealthy"
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_the_flight_goes_on_after_the_deadline_and_decides_the_next_answer(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    await registry.report(deadline_seconds=SHORT)
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)
    assert row_of(await registry.report(max_age_seconds=60)).state == "up"
    assert gated.calls == 1


async def test_a_check_in_flight_shows_its_last_outcome_at_the_deadline(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    gated = registry.register(
        "check", Gated(), options=CheckOptions(timeout_seconds=5, interval_seconds=10)
    )
    gated.gate.set()
    first = row_of(await registry.report())
    gated.gate.clear()
    clock.advance(1)
    assert row_of(await registry.report(deadline_seconds=SHORT)) == first
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_an_outcome_stands_in_for_its_timeout_plus_its_interval_and_no_longer(
    clock: FakeClock,
) -> None:
    registry = HealthRegistry(clock=clock)
    gated = registry.register(
        "check", Gated(), options=CheckOptions(timeout_seconds=30, interval_seconds=10)
    )
    gated.gate.set()
    await registry.report()
    gated.gate.clear()
    clock.advance(25)
    await registry.report(deadline_seconds=0)
    clock.advance(16)  # the outcome is 41 s old, the flight only 16
    assert row_of(await registry.report(deadline_seconds=0)).state == "up"
    clock.advance(1)
    assert kind_of(await registry.report(deadline_seconds=0)) == "pending"
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_a_deadline_of_nothing_asks_all_the_same(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    assert kind_of(await registry.report(deadline_seconds=0)) == "pending"
    await eventually(lambda: gated.calls == 1)
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_a_deadline_ends_only_the_wait_of_who_set_it(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    patient = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    assert kind_of(await registry.report(deadline_seconds=SHORT)) == "pending"
    gated.gate.set()
    assert row_of(await patient).state == "up"
    assert gated.calls == 1


async def test_an_answer_and_a_deadline_at_the_same_moment_are_one(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    asker = asyncio.create_task(registry.report(deadline_seconds=SHORT))
    await eventually(lambda: gated.calls == 1)
    gated.gate.set()
    time.sleep(2 * SHORT)
    assert row_of(await asker).state == "up"


async def test_a_late_asker_cuts_off_a_flight_whose_time_is_over(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=5)
    await registry.report(deadline_seconds=0)
    clock.advance(6)
    assert kind_of(await registry.report()) == "timeout"
    await eventually(lambda: stubborn.cancellations == 1)
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1"])
async def test_seconds_that_are_none_are_refused(registry: HealthRegistry, seconds: float) -> None:
    with pytest.raises(InvalidOptionError, match="max_age_seconds"):
        await registry.report(max_age_seconds=seconds)
    with pytest.raises(InvalidOptionError, match="deadline_seconds"):
        await registry.report(deadline_seconds=seconds)


# --- thresholds


async def test_a_failing_check_is_degraded_below_its_failure_threshold(
    registry: HealthRegistry,
) -> None:
    check = registry.register("check", Told(False), options=CheckOptions(failure_threshold=3))
    rows = [row_of(await registry.report()) for _ in range(4)]
    assert [row.state for row in rows] == ["degraded", "degraded", "down", "down"]
    assert [row.consecutive_failures for row in rows] == [1, 2, 3, 4]
    assert {row.failure and row.failure.kind for row in rows} == {"falsy"}
    assert check.calls == 4


async def test_one_success_starts_the_count_of_failures_anew(registry: HealthRegistry) -> None:
    check = registry.register("check", Told(False), options=CheckOptions(failure_threshold=2))
    states: list[str] = []
    for outcome in (False, True, False, False):
        check.outcome = outcome
        states.append(row_of(await registry.report()).state)
    assert states == ["degraded", "up", "degraded", "down"]


async def test_a_check_stays_down_below_its_success_threshold(registry: HealthRegistry) -> None:
    check = registry.register("check", Told(False), options=CheckOptions(success_threshold=3))
    states: list[str] = []
    for outcome in (False, True, True, False, True, True, True):
        check.outcome = outcome
        states.append(row_of(await registry.report()).state)
    assert states == ["down", "down", "down", "down", "down", "down", "up"]


async def test_an_outcome_that_is_shown_again_is_not_counted_again(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(False), options=CheckOptions(failure_threshold=2))
    reports = [await registry.report(max_age_seconds=60) for _ in range(5)]
    assert {row_of(report).state for report in reports} == {"degraded"}


async def test_askers_of_one_flight_count_one_failure(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated(False), options=CheckOptions(failure_threshold=2))
    askers = [asyncio.create_task(registry.report()) for _ in range(10)]
    await eventually(lambda: waiting(registry) == 10)
    gated.gate.set()
    assert {row_of(report).state for report in await asyncio.gather(*askers)} == {"degraded"}


# --- the machine's clocks


def test_the_clock_of_the_machine_is_in_utc_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


async def test_a_check_that_cancels_its_own_task_is_up_no_longer() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)

    async def gives_up() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return True

    told = Told()

    @registry.register("check")
    async def check() -> object:
        return await (gives_up() if told.outcome is None else told())

    assert row_of(await registry.report()).state == "up"
    told.outcome = None
    assert kind_of(await registry.report()) == "pending"
    assert callable(check)


async def test_what_pends_does_so_since_it_was_asked(clock: FakeClock) -> None:
    registry = HealthRegistry(clock=clock)
    registry.register("check", gated := Gated())
    asked_at = clock.now()
    for _ in range(3):
        row = row_of(await registry.report(deadline_seconds=0))
        assert row.failure is not None
        assert (row.since, row.failure.since) == (asked_at, asked_at)
        clock.advance(1)
    gated.gate.set()
    await registry.report()
