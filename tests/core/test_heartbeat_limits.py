"""Beats that are refused or dropped: bad arguments, too many names, and many threads at once."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import Any

import pytest

from cqrs_ddd_health import HealthRegistry, HealthSettings, InvalidNameError, InvalidOptionError
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import kind_of, log_is_written, row_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> HealthRegistry:
    return HealthRegistry(60, clock=clock)


# --- bad arguments

BAD_NAMES = ["", "  ", "a\nb", "a\x00", "\u202etxt", "x" * 129, 7, None, b"bytes", ["list"]]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_be_shown_is_refused(registry: HealthRegistry, name: str) -> None:
    for call in (registry.heartbeat, registry.expect, registry.retire):
        with pytest.raises(InvalidNameError, match="the name of a worker"):
            call(name)


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if name is not None])
def test_an_instance_or_phase_that_cannot_be_shown_is_refused(
    registry: HealthRegistry, name: str
) -> None:
    with pytest.raises(InvalidNameError, match="instance"):
        registry.heartbeat("worker", instance=name)
    with pytest.raises(InvalidNameError, match="phase"):
        registry.heartbeat("worker", phase=name)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "5", [1]])
def test_seconds_that_are_none_are_refused(registry: HealthRegistry, seconds: float) -> None:
    with pytest.raises(InvalidOptionError, match="timeout_seconds"):
        registry.heartbeat("worker", timeout_seconds=seconds)
    with pytest.raises(InvalidOptionError, match="grace_seconds"):
        registry.expect("worker", grace_seconds=seconds)
    with pytest.raises(InvalidOptionError, match="heartbeat_timeout_seconds"):
        HealthRegistry(seconds)


@pytest.mark.parametrize("count", [-1, 1.5, True, "5"])
def test_a_count_that_is_none_is_refused(registry: HealthRegistry, count: int) -> None:
    with pytest.raises(InvalidOptionError, match="progress"):
        registry.heartbeat("worker", progress=count)
    with pytest.raises(InvalidOptionError, match="min_instances"):
        registry.expect("worker", min_instances=count)


def test_a_probe_that_there_is_not_is_refused(registry: Any) -> None:
    with pytest.raises(InvalidOptionError, match="live, ready, startup"):
        registry.expect("worker", probes=["alive"])
    with pytest.raises(InvalidOptionError, match="from 1 to"):
        registry.expect("worker", min_instances=0)
    with pytest.raises(InvalidOptionError, match="probes must be several names"):
        registry.expect("worker", probes="ready")
    with pytest.raises(InvalidOptionError, match="critical must be True or False"):
        registry.expect("worker", critical="no")


# --- bounds


def small(clock: FakeClock, **limits: int) -> HealthRegistry:
    return HealthRegistry(settings=HealthSettings.model_validate(limits), clock=clock)


async def test_beats_of_too_many_workers_are_dropped_counted_and_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = small(clock, max_workers=2)
    with caplog.at_level(logging.WARNING, "cqrs_ddd_health"):
        for number in range(5):
            registry.heartbeat(f"worker {number}")
        registry.heartbeat("worker 0")
        registry.heartbeat("worker 1", instance="another of a known one")
        log_is_written()
    assert registry.dropped_beats == 3
    assert [row.name for row in (await registry.report()).components] == ["worker 0", "worker 1"]
    assert len(caplog.records) == 1
    assert "worker 2" in caplog.text


async def test_long_dead_instances_make_room_but_never_the_last_of_a_worker(
    clock: FakeClock,
) -> None:
    registry = small(clock, max_instances=3)
    registry.heartbeat("lonely", instance="last")
    registry.heartbeat("worker", instance="dead")
    registry.heartbeat("worker", instance="alive")
    clock.advance(601)
    registry.heartbeat("worker", instance="alive")
    registry.heartbeat("worker", instance="new")
    report = await registry.report()
    assert {(record.worker, record.instance) for record in report.heartbeats} == {
        ("lonely", "last"),
        ("worker", "alive"),
        ("worker", "new"),
    }
    assert (kind_of(report, "lonely"), registry.dropped_beats) == ("stale", 0)
    registry.heartbeat("worker", instance="one more")
    assert registry.dropped_beats == 1


async def test_instances_that_died_lately_make_no_room(clock: FakeClock) -> None:
    registry = small(clock, max_instances=2)
    registry.heartbeat("worker", instance="a")
    registry.heartbeat("worker", instance="b")
    clock.advance(61)
    registry.heartbeat("worker", instance="c")
    assert registry.dropped_beats == 1


async def test_records_come_worst_first_and_what_is_left_out_is_counted(
    clock: FakeClock,
) -> None:
    registry = small(clock, max_heartbeats=2)
    registry.expect("never seen")
    for age in range(5):
        registry.heartbeat("worker", instance=f"{age}")
        clock.advance(30)
    registry.heartbeat("young")
    report = await registry.report()
    assert [record.worker for record in report.heartbeats] == [
        "never seen",
        *["worker"] * 3,
        "young",
    ]
    assert [record.instance for record in report.heartbeats][1:4] == ["0", "1", "4"]
    assert report.heartbeats_omitted == 2
    ages = [record.age_seconds or 0.0 for record in report.heartbeats[1:]]
    assert ages == sorted(ages, reverse=True)


async def test_a_stale_beat_comes_before_an_older_one_that_is_not(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("patient", timeout_seconds=600)
    clock.advance(10)
    registry.heartbeat("impatient", timeout_seconds=5)
    clock.advance(10)
    records = (await registry.report()).heartbeats
    assert [record.worker for record in records] == ["impatient", "patient"]


# --- threads


async def test_any_thread_may_beat_while_others_look(registry: HealthRegistry) -> None:
    old_interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)  # ten times as often as usual; more would starve a busy machine
    errors: list[BaseException] = []

    def beat(thread: int) -> None:
        try:
            for number in range(300):
                registry.heartbeat(f"worker {number % 20}")
                registry.heartbeat("shared", instance=f"{thread}.{number % 7}")
                if number % 50 == 0:
                    registry.retire(f"worker {number % 20}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=beat, args=(number,)) for number in range(8)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            report = await registry.report()
            assert {row.state for row in report.components} <= {"up"}
            await asyncio.sleep(0)
    finally:
        sys.setswitchinterval(old_interval)
    assert errors == []
    report = await registry.report()
    assert row_of(report, "shared").details["instances"] == 8 * 7


async def test_a_beat_needs_no_loop_and_none_is_made(registry: HealthRegistry) -> None:
    def beat() -> None:
        registry.heartbeat("worker")
        registry.heartbeat("worker")

    before = set(threading.enumerate())
    thread = threading.Thread(target=beat)
    thread.start()
    thread.join()
    assert set(threading.enumerate()) <= before
    assert row_of(await registry.report(), "worker").state == "up"
