"""Beats of workers: from any thread, judged by their age, bounded, and never an error."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cqrs_ddd_health import HealthRegistry, HealthSettings, HeartbeatRecord
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import kind_of, row_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> HealthRegistry:
    return HealthRegistry(60, clock=clock)


def record_of(records: tuple[HeartbeatRecord, ...], instance: str | None) -> HeartbeatRecord:
    return next(record for record in records if record.instance == instance)


# --- fresh and stale


async def test_a_worker_that_beat_is_up_and_its_record_says_when(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker")
    clock.advance(5)
    report = await registry.report()
    row, (record,) = row_of(report, "worker"), report.heartbeats
    assert (row.kind, row.state, row.probes, row.critical) == ("worker", "up", ("ready",), True)
    assert (row.latency_seconds, row.checked_at) == (None, report.timestamp)
    assert (record.worker, record.state, record.age_seconds) == ("worker", "up", 5)
    assert record.last_seen == report.timestamp - timedelta(seconds=5)
    assert record.instance == report.service.instance


async def test_a_beat_is_stale_when_it_is_older_than_its_timeout(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker")
    clock.advance(60)
    assert row_of(await registry.report(), "worker").state == "up"
    clock.advance(1)
    report = await registry.report()
    assert (report.status, kind_of(report, "worker")) == ("unhealthy", "stale")
    registry.heartbeat("worker")
    assert row_of(await registry.report(), "worker").state == "up"


async def test_a_worker_is_stale_since_its_beat_grew_too_old_and_not_since_somebody_looked(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker")
    grew_too_old_at = clock.now() + timedelta(seconds=60)
    clock.advance(1_000)
    for _ in range(2):
        row = row_of(await registry.report(), "worker")
        assert row.failure is not None
        assert (row.failure.since, row.consecutive_failures) == (grew_too_old_at, 1)
        clock.advance(10)


async def test_a_timeout_of_nothing_is_always_stale(clock: FakeClock) -> None:
    registry = HealthRegistry(0, clock=clock)
    registry.heartbeat("worker")
    assert kind_of(await registry.report(), "worker") == "stale"


async def test_the_timeout_comes_from_the_settings_unless_it_is_said(clock: FakeClock) -> None:
    settings = HealthSettings(heartbeat_timeout_seconds=7)
    for registry, expected in (
        (HealthRegistry(settings=settings, clock=clock), 7),
        (HealthRegistry(9, settings=settings, clock=clock), 9),
    ):
        registry.heartbeat("worker")
        (record,) = (await registry.report()).heartbeats
        assert record.timeout_seconds == expected


async def test_a_wall_clock_that_jumps_a_day_changes_no_verdict(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker")
    for jump in (86_400, -2 * 86_400):
        clock.jump(jump)
        report = await registry.report()
        assert (row_of(report, "worker").state, report.heartbeats[0].age_seconds) == ("up", 0)
    clock.advance(61)
    for jump in (-86_400, 2 * 86_400):
        clock.jump(jump)
        assert kind_of(await registry.report(), "worker") == "stale"


# --- what a beat may say


async def test_a_beat_may_have_a_timeout_of_its_own_until_the_next_plain_one(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker", timeout_seconds=600)
    clock.advance(599)
    report = await registry.report()
    assert (row_of(report, "worker").state, report.heartbeats[0].timeout_seconds) == ("up", 600)
    registry.heartbeat("worker")
    assert (await registry.report()).heartbeats[0].timeout_seconds == 60
    clock.advance(61)
    assert kind_of(await registry.report(), "worker") == "stale"


async def test_a_beat_may_say_what_it_is_doing_and_how_far_it_is(
    registry: HealthRegistry,
) -> None:
    registry.heartbeat("worker", phase="importing", progress=7)
    (record,) = (await registry.report()).heartbeats
    assert (record.phase, record.progress) == ("importing", 7)
    registry.heartbeat("worker")
    (record,) = (await registry.report()).heartbeats
    assert (record.phase, record.progress) == (None, None)


async def test_instances_of_a_worker_are_one_row_and_a_record_each(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker", instance="old")
    clock.advance(61)
    registry.heartbeat("worker", instance="young")
    report = await registry.report()
    row = row_of(report, "worker")
    assert (row.state, row.details["instances"], row.details["fresh"]) == ("up", 2, 1)
    assert [(record.instance, record.state) for record in report.heartbeats] == [
        ("old", "down"),
        ("young", "up"),
    ]


async def test_ones_own_instance_by_name_is_the_same_as_none(registry: HealthRegistry) -> None:
    registry.heartbeat("worker")
    instance = (await registry.report()).service.instance
    registry.heartbeat("worker", instance=instance, progress=3)
    (record,) = (await registry.report()).heartbeats
    assert record.progress == 3


async def test_the_settings_may_name_the_instance(clock: FakeClock) -> None:
    registry = HealthRegistry(settings=HealthSettings(instance="pod-7"), clock=clock)
    registry.heartbeat("worker")
    report = await registry.report()
    assert (report.heartbeats[0].instance, report.service.instance) == ("pod-7", "pod-7")


async def test_a_check_and_a_worker_may_share_a_name(registry: HealthRegistry) -> None:
    registry.register("shared", lambda: False)
    registry.heartbeat("shared")
    report = await registry.report()
    assert [(row.kind, row.state) for row in report.components] == [
        ("check", "down"),
        ("worker", "up"),
    ]
    assert row_of(report, "shared").kind == "check"
    assert await registry.check_all() == {"shared": "down"}


# --- expected workers


async def test_an_expected_worker_is_pending_and_then_missing_until_it_beats(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.expect("worker")
    first = await registry.report()
    clock.advance(59)
    second = await registry.report()
    clock.advance(1)
    third = await registry.report()
    assert [kind_of(report, "worker") for report in (first, second, third)] == [
        "pending",
        "pending",
        "missing",
    ]
    assert {report.status for report in (first, second, third)} == {"unhealthy"}
    (record,) = third.heartbeats
    assert (record.worker, record.instance, record.state) == ("worker", None, "down")
    assert (record.last_seen, record.age_seconds) == (None, None)
    registry.heartbeat("worker")
    assert row_of(await registry.report(), "worker").state == "up"


async def test_the_grace_of_an_expected_worker_may_be_said(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.expect("now", grace_seconds=0)
    registry.expect("later", grace_seconds=600)
    clock.advance(599)
    report = await registry.report()
    assert (kind_of(report, "now"), kind_of(report, "later")) == ("missing", "pending")


async def test_an_expected_worker_that_was_never_seen_gates_nothing_unless_told_to(
    registry: HealthRegistry,
) -> None:
    registry.expect("silent")
    registry.expect("gating", probes=["ready", "live"])
    registry.expect("optional", probes=("ready",), critical=False)
    ready = await registry.report(probe="ready")
    assert [row.name for row in ready.components] == ["gating"]
    assert [row.name for row in (await registry.report(probe="live")).components] == ["gating"]


async def test_a_worker_that_is_not_critical_only_degrades(registry: HealthRegistry) -> None:
    registry.expect("worker", critical=False)
    assert (await registry.report()).status == "degraded"


async def test_too_few_instances_are_down(registry: HealthRegistry, clock: FakeClock) -> None:
    registry.expect("worker", min_instances=2)
    registry.heartbeat("worker", instance="a")
    assert kind_of(await registry.report(), "worker") == "missing"
    registry.heartbeat("worker", instance="b")
    assert row_of(await registry.report(), "worker").state == "up"
    clock.advance(61)
    registry.heartbeat("worker", instance="a")
    assert kind_of(await registry.report(), "worker") == "stale"


async def test_a_worker_that_is_retired_leaves_and_is_not_expected_any_more(
    registry: HealthRegistry,
) -> None:
    registry.expect("worker")
    registry.heartbeat("worker")
    registry.heartbeat("worker", instance="other")
    registry.retire("worker")
    report = await registry.report()
    assert (report.components, report.heartbeats) == ((), ())
    registry.retire("worker")
    registry.retire("never seen")


async def test_one_instance_may_be_retired_alone(registry: HealthRegistry) -> None:
    registry.expect("worker")
    registry.heartbeat("worker")
    registry.heartbeat("worker", instance="other")
    own = (await registry.report()).service.instance
    registry.retire("worker", instance=own)
    registry.retire("worker", instance="unknown")
    assert [record.instance for record in (await registry.report()).heartbeats] == ["other"]
    registry.retire("worker", instance="other")
    assert kind_of(await registry.report(), "worker") == "pending"


async def test_a_retired_worker_that_beats_again_is_back_as_new(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    registry.heartbeat("worker")
    await registry.report()
    registry.retire("worker")
    await registry.report()
    clock.advance(100)
    registry.heartbeat("worker")
    assert row_of(await registry.report(), "worker").since == clock.now()
