"""What has been: bounded rings of results and transitions, which forget what is no more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import (
    CheckOptions,
    ComponentStatus,
    HealthRegistry,
    MemoryHeartbeatStore,
    PastResult,
    UnknownNameError,
)
from cqrs_ddd_health.domain.models import ComponentState
from cqrs_ddd_health.engine.history import MAX_RESULTS, MAX_TRANSITIONS, Results
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import SHORT, Gated, Told, answer_of_script, eventually, row_of

STATES: Sequence[ComponentState] = ("up", "degraded", "down")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> HealthRegistry:
    return HealthRegistry(60, clock=clock)


# --- results


async def test_each_run_is_remembered_with_its_state_and_when(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    check = registry.register("check", Told(), options=CheckOptions(failure_threshold=2))
    rows: list[ComponentStatus] = []
    for outcome in (True, True, False, False, True):
        check.outcome = outcome
        clock.advance(10)
        rows.append(row_of(await registry.report()))
    past = registry.history("check")
    assert [one.state for one in past] == ["up", "up", "degraded", "down", "up"]
    assert [one.at for one in past] == [row.checked_at for row in rows]
    assert [one.latency_seconds for one in past] == [row.latency_seconds for row in rows]


async def test_a_run_that_many_asked_for_is_one_result(registry: HealthRegistry) -> None:
    check = registry.register("check", Gated())
    asking = [asyncio.create_task(registry.report()) for _ in range(5)]
    await eventually(lambda: check.calls == 1)
    check.gate.set()
    await asyncio.gather(*asking)
    await registry.report(max_age_seconds=60)
    assert len(registry.history("check")) == 1


async def test_a_run_that_hangs_is_one_result_however_many_look() -> None:
    registry = HealthRegistry()
    check = registry.register("check", Gated(), timeout_seconds=SHORT)
    registry.register("other", asyncio.Event().wait, timeout_seconds=3_600)
    await registry.report(tags=(), deadline_seconds=10 * SHORT)
    registry.unregister("other")
    seen = len(registry.history("check"))
    assert [one.state for one in registry.history("check")] == ["down"] * seen
    assert seen >= 1
    check.gate.set()


async def test_what_is_kept_is_bounded_and_the_latest(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.register("check", Told())
    for _ in range(5 * MAX_RESULTS):
        clock.advance(1)
        await registry.report()
        assert len(registry.history("check")) <= MAX_RESULTS
    past = registry.history("check")
    assert len(past) == MAX_RESULTS
    assert past[-1].at == clock.now()
    assert past[0].at == clock.now() - timedelta(seconds=MAX_RESULTS - 1)


async def test_a_check_of_which_nothing_is_known_has_no_past(registry: HealthRegistry) -> None:
    registry.register("check", Told())
    assert registry.history("check") == ()
    with pytest.raises(UnknownNameError, match="there is no check 'chekc'"):
        registry.history("chekc")


async def test_the_past_is_forgotten_with_its_check(registry: HealthRegistry) -> None:
    registry.register("check", Told())
    registry.register("other", Told())
    await registry.report()
    registry.unregister("check")
    assert [one.name for one in registry.transitions()] == ["other"]
    with pytest.raises(UnknownNameError):
        registry.history("check")
    registry.register("check", Told())
    assert registry.history("check") == ()


async def test_the_heartbeat_store_has_a_past_too() -> None:
    registry = HealthRegistry(heartbeat_store=MemoryHeartbeatStore())
    registry.register("heartbeat_store", Told(False))
    report = await registry.report()
    (store,) = (row.name for row in report.components if row.kind == "store")
    assert [one.state for one in registry.history(store, kind="store")] == ["up"]
    await registry.aclose()
    with pytest.raises(UnknownNameError, match="no heartbeat store that is shown as 'other'"):
        registry.history("other", kind="store")
    with pytest.raises(UnknownNameError, match="no heartbeat store"):
        HealthRegistry().history("heartbeat_store", kind="store")


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(STATES), st.floats(0, 1e9)),
        max_size=3 * MAX_RESULTS,
    )
)
def test_what_is_read_is_what_was_added(past: list[tuple[int, ComponentState, float]]) -> None:
    results = Results()
    for one in past:
        results.add(*one)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    read = results.read(10**6, start + timedelta(seconds=10**6))
    assert read == tuple(
        PastResult(start + timedelta(seconds=then), state, latency)
        for then, state, latency in past[-MAX_RESULTS:]
    )


async def test_a_wall_clock_that_is_set_moves_all_results_alike(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.register("check", Told())
    await registry.report()
    clock.advance(10)
    clock.jump(86_400)
    await registry.report()
    first, second = registry.history("check")
    assert second.at - first.at == timedelta(seconds=10)
    assert second.at == clock.now()


def test_a_result_takes_a_few_bytes() -> None:
    results = Results()
    for _ in range(10 * MAX_RESULTS):
        results.add(1e6, "down", 0.1)
    assert sys.getsizeof(results._packed) < 2_048


# --- transitions


async def test_changes_of_checks_and_workers_are_remembered_in_order(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    check = registry.register("check", Told())
    registry.heartbeat("worker")
    await registry.report()
    clock.advance(61)
    check.outcome = False
    await registry.report()
    await registry.report()
    assert [(one.kind, one.name, one.before, one.after) for one in registry.transitions()] == [
        ("check", "check", None, "up"),
        ("worker", "worker", None, "up"),
        ("check", "check", "up", "down"),
        ("worker", "worker", "up", "down"),
    ]
    last = registry.transitions()[-1]
    assert last.at == clock.now()
    assert last.failure is not None
    assert last.failure.kind == "stale"


async def test_only_the_last_changes_are_kept(registry: HealthRegistry) -> None:
    check = registry.register("check", Told())
    for number in range(3 * MAX_TRANSITIONS):
        check.outcome = number % 2 == 0
        await registry.report()
    kept = registry.transitions()
    assert len(kept) == MAX_TRANSITIONS
    assert {one.before for one in kept} == {"up", "down"}


async def test_a_worker_and_a_check_of_one_name_are_told_apart(registry: HealthRegistry) -> None:
    registry.register("same", Told())
    registry.heartbeat("same")
    await registry.report()
    registry.unregister("same")
    assert [(one.kind, one.name) for one in registry.transitions()] == [("worker", "same")]


def test_threads_may_read_while_others_write() -> None:
    registry = HealthRegistry()
    check = registry.register("check", Told())

    def write(number: int) -> None:
        check.outcome = number % 2 == 0
        registry.report_sync()

    def read(number: int) -> None:
        states = [one.state for one in registry.history("check")]
        assert set(states) <= {"up", "down"}
        assert all(one.before != one.after for one in registry.transitions())

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(act, number) for number in range(200) for act in (write, read)]
    for future in futures:
        future.result()


def test_a_forked_child_goes_on_from_what_its_parent_saw() -> None:
    source = """
import os, sys
from cqrs_ddd_health import HealthRegistry
answers = [True]
registry = HealthRegistry()
registry.register("check", lambda: answers[-1])
registry.report_sync()
registry._engine.runner.lock.acquire()  # as another thread may hold them when somebody forks
registry._engine.transitions._lock.acquire()
child = os.fork()
if not child:
    answers.append(False)
    registry.report_sync()
    states = [one.state for one in registry.history("check")]
    changes = [one.after for one in registry.transitions()]
    print(states, changes, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert answer_of_script(source) == "['up', 'down'] ['up', 'down']"
