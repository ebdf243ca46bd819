"""What is known and was counted, with nobody asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest

from cqrs_ddd_health import (
    BeatsRead,
    CheckOptions,
    CheckResult,
    HealthRegistry,
    HealthSettings,
    MemoryHeartbeatStore,
    StoredBeat,
)
from cqrs_ddd_health.domain.models import FailureKind
from cqrs_ddd_health.engine.tallies import BOUNDS, Tally
from cqrs_ddd_health.testing import FakeCheck, FakeClock
from tests.core.actors import answer_of_script, eventually


def failures(registry: HealthRegistry, name: str) -> Mapping[FailureKind, int]:
    return registry.measurements().runs[name].failures


# --- what is counted


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (1.0, 4), (5.0, 6), (5.001, 7), (float("inf"), 7)],
)
def test_a_run_counts_up_to_its_bound_inclusive(seconds: float, place: int) -> None:
    tally = Tally()
    tally.add(seconds, None)
    expected = [0] * (len(BOUNDS) + 1)
    expected[place] = 1
    assert tally.read() == (tuple(expected), seconds, {})


def test_what_was_read_does_not_change() -> None:
    tally = Tally()
    tally.add(0.1, "falsy")
    before = tally.read()
    tally.add(0.1, "falsy")
    assert (before.failures, sum(before.by_duration)) == ({"falsy": 1}, 1)


async def test_each_run_is_counted_once_with_its_kind_of_failure() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    check = registry.register("database", FakeCheck())
    results = (CheckResult(), OSError(), OSError(), CheckResult(state="degraded"), CheckResult())
    for result in results:
        check.result = result
        await registry.report()
    runs = registry.measurements().runs["database"]
    assert sum(runs.by_duration) == len(results)
    assert runs.failures == {"exception": 2, "reported": 1}


async def test_a_run_that_many_wait_for_is_one() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    registry.register("slow", lambda: asyncio.sleep(0.01, result=True))
    await asyncio.gather(*(registry.report() for _ in range(20)))
    assert sum(registry.measurements().runs["slow"].by_duration) == 1


async def test_what_hangs_is_a_timeout_and_then_hangs_but_ran_once() -> None:
    clock, release = FakeClock(), threading.Event()
    registry = HealthRegistry(settings=HealthSettings(), clock=clock)
    registry.register("stuck", release.wait, timeout_seconds=0.01)
    await registry.report()
    assert failures(registry, "stuck") == {"timeout": 1}
    await registry.report()  # at once: one more run could not have failed yet
    assert failures(registry, "stuck") == {"timeout": 1}
    clock.advance(0.02)
    await registry.report()
    assert failures(registry, "stuck") == {"timeout": 1, "hung": 1}
    measured = registry.measurements()
    assert (sum(measured.runs["stuck"].by_duration), measured.hung_checks) == (1, 1)
    release.set()
    await eventually(lambda: registry.measurements().hung_checks == 0)


async def test_what_is_unregistered_or_switched_off_is_not_there() -> None:
    settings = HealthSettings.model_validate({"checks": {"off": {"enabled": False}}})
    registry = HealthRegistry(settings=settings)
    for name in ("off", "gone", "there"):
        registry.register(name, FakeCheck())
    await registry.report()
    registry.unregister("gone")
    measured = registry.measurements()
    assert measured.runs.keys() == {"there"} == {row.name for row in measured.report.components}


def test_a_forked_child_begins_to_count_anew() -> None:
    source = """
import asyncio, os
from cqrs_ddd_health import HealthRegistry
registry = HealthRegistry()
@registry.register("check")
async def check():
    return False
asyncio.run(registry.report())
child = os.fork()
if not child:
    before = registry.measurements().runs["check"]
    asyncio.run(registry.report())
    after = registry.measurements().runs["check"]
    counted = sum(before.by_duration), sum(after.by_duration), after.failures
    os._exit(0 if counted == (0, 1, {"falsy": 1}) else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), sum(registry.measurements().runs["check"].by_duration))
"""
    assert answer_of_script(source) == "0 1"


async def test_counting_in_many_threads_loses_nothing() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    registry.register("check", lambda: False, options=CheckOptions(blocking=False))

    def ask() -> None:
        for _ in range(50):
            registry.report_sync()
            registry.measurements()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    runs = registry.measurements().runs["check"]
    assert sum(runs.by_duration) == runs.failures["falsy"] <= 200


# --- what is known


async def test_nobody_is_asked_and_the_last_outcome_is_shown_however_old() -> None:
    clock = FakeClock()
    registry = HealthRegistry(settings=HealthSettings(), clock=clock)
    check = registry.register("database", FakeCheck())
    (row,) = (await registry.report()).components
    clock.advance(86_400)
    report = registry.measurements().report
    assert report.components == (row,)
    assert (report.timestamp - row.since).total_seconds() == 86_400
    assert check.calls == 1


def test_what_was_never_asked_is_pending() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    check = registry.register("database", FakeCheck())
    (row,) = registry.measurements().report.components
    assert (row.state, row.failure and row.failure.kind, check.calls) == ("down", "pending", 0)


async def test_a_run_that_was_cancelled_leaves_nothing_to_show() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    runs = 0

    async def check() -> bool:
        nonlocal runs
        runs += 1
        return runs == 1 or await asyncio.Event().wait()

    registry.register("database", check)
    await registry.report()
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: runs == 2)
    (flight,) = [task for task in asyncio.all_tasks() if task.get_name().endswith("database")]
    flight.cancel()
    asker.cancel()
    await asyncio.wait({flight, asker})
    (row,) = registry.measurements().report.components
    assert row.failure is not None
    assert row.failure.kind == "pending"


def test_ages_of_beats_are_as_of_now() -> None:
    clock = FakeClock()
    registry = HealthRegistry(30, settings=HealthSettings(), clock=clock)
    registry.heartbeat("outbox")
    for age, state in ((0, "up"), (30, "up"), (31, "down")):
        report = registry.measurements().report
        assert [record.age_seconds for record in report.heartbeats] == [age]
        assert [row.state for row in report.components] == [state]
        clock.advance(30 if not age else 1)


# --- instances


def test_instances_are_counted_by_state_all_of_them() -> None:
    clock = FakeClock()
    settings = HealthSettings(max_heartbeats=1)
    registry = HealthRegistry(30, settings=settings, clock=clock)
    registry.expect("never_seen")
    for number in range(3):
        registry.heartbeat("outbox", instance=f"old {number}")
    clock.advance(31)
    registry.heartbeat("outbox")
    measured = registry.measurements()
    assert measured.instances == {
        "never_seen": {"up": 0, "degraded": 0, "down": 0},
        "outbox": {"up": 1, "degraded": 0, "down": 3},
    }
    assert measured.report.heartbeats_omitted > 0


class Store(MemoryHeartbeatStore):
    """A shared store that can be out of reach."""

    is_there = True

    async def read(self) -> BeatsRead:
        if not self.is_there:
            raise OSError
        return await super().read()


async def test_who_is_not_seen_is_degraded_not_down() -> None:
    store = Store()
    await store.publish([StoredBeat("outbox", "elsewhere", "token", 1, 0.0, 60.0)])
    registry = HealthRegistry(settings=HealthSettings(), heartbeat_store=store)
    registry.heartbeat("outbox")
    await registry.report()
    assert registry.measurements().instances == {"outbox": {"up": 2, "degraded": 0, "down": 0}}
    store.is_there = False
    await registry.report()
    measured = registry.measurements()
    assert measured.instances == {"outbox": {"up": 1, "degraded": 1, "down": 0}}
    runs = measured.runs["heartbeat_store"]
    assert (sum(runs.by_duration), runs.failures) == (2, {"exception": 1})
    await registry.aclose()


async def test_a_store_that_nobody_read_lately_makes_nobody_dead() -> None:
    store, clock = Store(), FakeClock()
    await store.publish([StoredBeat("outbox", "elsewhere", "token", 1, 0.0, 60.0)])
    registry = HealthRegistry(settings=HealthSettings(), clock=clock, heartbeat_store=store)
    await registry.report()
    clock.advance(3_600)
    measured = registry.measurements()
    assert measured.instances == {"outbox": {"up": 0, "degraded": 1, "down": 0}}
    assert [row.state for row in measured.report.components] == ["up", "degraded"]


# --- what was dropped


def test_beats_and_news_that_were_dropped_are_counted() -> None:
    registry = HealthRegistry(settings=HealthSettings(max_workers=1))
    registry.heartbeat("one")
    registry.heartbeat("two")
    measured = registry.measurements()
    assert (measured.dropped_beats, measured.dropped_transitions) == (1, 0)


# --- ready


def test_who_drains_or_lacks_what_gates_is_not_ready() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    assert registry.measurements().ready
    registry.register("minor", FakeCheck(), critical=False)
    assert registry.measurements().ready
    registry.register("database", FakeCheck())
    assert not registry.measurements().ready  # it was never asked
    registry.report_sync()
    assert registry.measurements().ready
    registry.drain()
    assert not registry.measurements().ready
