"""Asking async checks: bounded, contained, one flight for everyone, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from contextvars import ContextVar

import pytest

from cqrs_ddd_health import HealthRegistry
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

request_id: ContextVar[str] = ContextVar("request_id", default="none")


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


class WatchedError(Exception):
    """Unlike the exceptions that come with Python it can be referred to weakly."""


# --- deadline


async def test_a_check_that_ignores_cancellation_is_answered_by_its_timeout(
    registry: HealthRegistry,
) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    report = await registry.report()
    assert kind_of(report) == "timeout"
    assert not stubborn.released.is_set()
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_a_check_that_obeys_is_cancelled_at_its_timeout(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated(), timeout_seconds=SHORT)
    assert kind_of(await registry.report()) == "timeout"
    await eventually(lambda: registry.hung_checks == 0)
    gated.gate.set()
    assert row_of(await registry.report()).state == "up"
    assert gated.calls == 2


async def test_a_hung_check_is_not_started_twice(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    for _ in range(5):
        await registry.report()
    assert stubborn.calls == 1
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_the_row_of_a_hung_check_says_since_when() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    began = clock.now()
    await registry.report()
    clock.advance(100)
    for _ in range(2):
        failure = row_of(await registry.report()).failure
        assert failure is not None
        assert (failure.kind, failure.since) == ("hung", began)
        clock.advance(1)
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_a_hung_check_fails_once_more_each_time_a_run_could_have_failed() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    failures: list[int] = []
    for seconds in (0.0, 0.0, 0.0, 1.0, 0.0, 1.0):
        clock.advance(seconds)
        failures.append(row_of(await registry.report()).consecutive_failures)
    assert failures == [1, 1, 1, 2, 2, 3]
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_one_orphan_is_counted_and_released_when_it_ends(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    for _ in range(3):
        await registry.report()
        assert registry.hung_checks == 1
    await eventually(lambda: stubborn.cancellations > 0)
    assert stubborn.cancellations == 1
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert slot_of(registry).flight is None
    assert row_of(await registry.report()).state == "up"
    assert stubborn.calls == 2


async def test_a_late_answer_does_not_overrule_the_timeout(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    await registry.report()
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert kind_of(await registry.report(max_age_seconds=60)) == "timeout"


async def test_one_hung_check_does_not_hold_up_the_others(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    registry.register("fine", Told())
    report = await registry.report()
    assert [(row.name, row.state) for row in report.components] == [
        ("check", "down"),
        ("fine", "up"),
    ]
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_a_coroutine_that_blocks_the_loop_is_late_but_right(
    registry: HealthRegistry,
) -> None:
    async def blocks() -> bool:
        time.sleep(2 * SHORT)
        return True

    registry.register("check", blocks, timeout_seconds=SHORT)
    gated = registry.register("other", Gated(), timeout_seconds=5)
    asyncio.get_running_loop().call_later(SHORT, gated.gate.set)
    report = await registry.report()
    assert [row.state for row in report.components] == ["up", "up"]
    assert (row_of(report).latency_seconds or 0.0) >= SHORT


# --- cancellation


async def test_the_callers_cancellation_is_raised_and_the_flight_goes_on(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    first = asyncio.create_task(registry.report())
    second = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert waiting(registry) == 1
    gated.gate.set()
    assert row_of(await second).state == "up"
    assert gated.calls == 1


async def test_a_flight_that_everyone_left_still_decides(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    asker.cancel()
    await asyncio.gather(asker, return_exceptions=True)
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)
    assert row_of(await registry.report(max_age_seconds=60)).state == "up"
    assert gated.calls == 1


async def test_a_flight_that_everyone_left_is_still_cut_off(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    asker.cancel()
    await asyncio.gather(asker, return_exceptions=True)
    await eventually(lambda: stubborn.cancellations == 1)
    assert registry.hung_checks == 1
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_the_callers_own_timeout_is_not_swallowed(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT):
            await registry.report()
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_a_flight_that_is_cancelled_from_outside_has_no_verdict(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    flight = slot_of(registry).flight
    assert flight is not None
    assert flight.task is not None
    flight.task.cancel()
    assert kind_of(await asker) == "pending"
    gated.gate.set()
    assert row_of(await registry.report()).state == "up"


async def test_a_flight_that_was_cancelled_before_it_began_is_flown_again(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated(), timeout_seconds=SHORT)
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    flight = slot_of(registry).flight
    assert flight is not None
    lost = asyncio.create_task(asyncio.sleep(60))
    task, flight.task = flight.task, lost  # stands for a task that never took its first step
    lost.cancel()
    assert task is not None
    assert kind_of(await asker) == "timeout"
    gated.gate.set()
    assert row_of(await registry.report()).state == "up"
    assert gated.calls == 2
    await task  # it ends after all, and is nobody's any more


# --- one flight


async def test_a_thousand_askers_share_one_flight(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    askers = [asyncio.create_task(registry.report()) for _ in range(1_000)]
    await eventually(lambda: waiting(registry) == 1_000)
    gated.gate.set()
    reports = await asyncio.gather(*askers)
    assert gated.calls == 1
    assert {row_of(report).state for report in reports} == {"up"}
    assert len({row_of(report).checked_at for report in reports}) == 1


async def test_askers_that_leave_leave_nothing_behind(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    reports = [registry.report(deadline_seconds=SHORT) for _ in range(50)]
    askers = [asyncio.create_task(registry.report()) for _ in range(50)]
    await asyncio.gather(*reports)
    for asker in askers:
        asker.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    flight = slot_of(registry).flight
    assert flight is not None
    assert not flight.waiting
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_a_decided_flight_remembers_none_of_its_askers(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    await asyncio.gather(*(registry.report() for _ in range(20)))
    flight = slot_of(registry).flight
    assert flight is not None
    assert not flight.waiting
    stubborn.released.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_askers_of_different_checks_wait_only_for_their_own(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated(), tags=["slow"])
    registry.register("fine", Told(), tags=["fast"])
    report = await registry.report(tags=["fast"])
    assert [row.name for row in report.components] == ["fine"]
    assert gated.calls == 0


# --- hygiene


async def test_a_flight_does_not_see_the_context_of_who_asked(registry: HealthRegistry) -> None:
    seen: list[str] = []

    async def check() -> bool:
        seen.append(request_id.get())
        request_id.set("the check's")
        await asyncio.sleep(0)
        return True

    registry.register("check", check)
    request_id.set("the asker's")
    await registry.report()
    await registry.report()
    assert seen == ["none", "none"]
    assert request_id.get() == "the asker's"


async def test_the_task_of_a_flight_is_named_after_its_check(registry: HealthRegistry) -> None:
    names: list[str] = []

    async def check() -> bool:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        names.append("" if task is None else task.get_name())
        return True

    registry.register("check", check)
    await registry.report()
    assert names == ["cqrs-health check check"]


async def test_no_exception_object_is_kept_alive(registry: HealthRegistry) -> None:
    kept: list[weakref.ref[BaseException]] = []

    async def check() -> bool:
        error = WatchedError()
        kept.append(weakref.ref(error))
        raise error

    def sync_check() -> bool:
        error = WatchedError()
        kept.append(weakref.ref(error))
        raise error

    registry.register("check", check)
    registry.register("sync", sync_check)
    report = await registry.report()
    assert [row.state for row in report.components] == ["down", "down"]
    await eventually(lambda: gc.collect() >= 0 and [ref() for ref in kept] == [None, None])


async def test_a_thousand_flights_leave_no_task_behind(registry: HealthRegistry) -> None:
    registry.register("check", Told())
    before = len(asyncio.all_tasks())
    for _ in range(1_000):
        await registry.report()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
    assert slot_of(registry).flight is None


async def test_a_flight_from_before_a_fork_frees_no_slot_of_the_child(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    before = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    flight = slot_of(registry).flight
    assert flight is not None
    registry._engine.begin_process()  # as in a child that goes on with its parent's loop
    after = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    assert flight.task is not None
    flight.task.cancel()
    await asyncio.gather(flight.task, return_exceptions=True)
    assert waiting(registry) == 1
    gated.gate.set()
    assert row_of(await after).state == "up"
    await before


async def test_garbage_collection_loses_no_flight(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    for _ in range(5):
        gc.collect()
        await asyncio.sleep(0)
    gated.gate.set()
    assert row_of(await asker).state == "up"


async def test_an_empty_registry_is_healthy_and_asks_nobody(registry: HealthRegistry) -> None:
    report = await registry.report()
    assert (report.status, report.components) == ("healthy", ())
