"""The contract's dicts, derived from one typed report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cqrs_ddd_health import ComponentStatus, Failure, HealthReport, HeartbeatRecord
from cqrs_ddd_health.domain.contract import components_dict, ready_dict, status_dict
from cqrs_ddd_health.domain.models import ComponentKind, ComponentState, overall_status

AT = datetime(2026, 2, 20, 12, tzinfo=UTC)


def row(
    name: str, state: ComponentState, kind: ComponentKind = "check", *, critical: bool = True
) -> ComponentStatus:
    failure = None if state == "up" else Failure(kind="reported", since=AT)
    return ComponentStatus(
        name=name,
        kind=kind,
        state=state,
        critical=critical,
        since=AT,
        checked_at=AT,
        failure=failure,
    )


def seen(worker: str, age: float | None, instance: str = "one") -> HeartbeatRecord:
    if age is None:
        return HeartbeatRecord(worker=worker, state="down", timeout_seconds=60.0)
    return HeartbeatRecord(
        worker=worker,
        instance=instance,
        state="up" if age <= 60 else "down",
        last_seen=AT - timedelta(seconds=age),
        age_seconds=age,
        timeout_seconds=60.0,
    )


def report(
    *rows: ComponentStatus, beats: tuple[HeartbeatRecord, ...] = (), draining: bool = False
) -> HealthReport:
    return HealthReport(
        status=overall_status(rows),
        components=rows,
        heartbeats=beats,
        timestamp=AT,
        draining=draining,
    )


@pytest.mark.parametrize(
    ("state", "expected"), [("up", "up"), ("degraded", "up"), ("down", "down")]
)
def test_a_degraded_component_reads_up(state: ComponentState, expected: str) -> None:
    assert components_dict(report(row("a", state))) == {"a": expected}


@pytest.mark.parametrize("order", [1, -1])
def test_a_check_and_a_worker_of_one_name_show_the_worse(order: int) -> None:
    rows = [row("a", "down"), row("a", "up", "worker")][::order]
    assert components_dict(report(*rows)) == {"a": "down"}


def test_the_row_of_a_store_never_reads_down() -> None:
    shown = report(row("heartbeat_store", "down", "store", critical=False))
    assert components_dict(shown) == {"heartbeat_store": "up"}
    assert status_dict(shown)["status"] == "healthy"
    assert ready_dict(shown)["ready"]


def test_healthy_means_that_every_component_reads_up() -> None:
    assert status_dict(report(row("a", "up"), row("b", "degraded")))["status"] == "healthy"
    optional = row("b", "down", critical=False)
    assert status_dict(report(row("a", "up"), optional))["status"] == "unhealthy"


def test_a_worker_was_seen_when_its_youngest_instance_was() -> None:
    beats = (seen("w", 90.0, "old"), seen("w", 5.0, "young"), seen("never", None))
    assert status_dict(report(beats=beats))["heartbeats"] == {
        "never": None,
        "w": "2026-02-20T11:59:55+00:00",
    }


def test_a_worker_that_one_record_never_saw_and_another_did_was_seen() -> None:
    beats = (seen("w", None), seen("w", 5.0))
    assert status_dict(report(beats=beats))["heartbeats"] == {"w": "2026-02-20T11:59:55+00:00"}


def test_the_timestamp_is_iso_8601_in_utc() -> None:
    assert status_dict(report())["timestamp"] == "2026-02-20T12:00:00+00:00"


def test_a_process_that_leaves_is_not_ready_however_well_it_is() -> None:
    assert ready_dict(report(row("a", "up"))) == {"ready": True, "components": {"a": "up"}}
    assert not ready_dict(report(row("a", "up"), draining=True))["ready"]
    assert not ready_dict(report(row("a", "down")))["ready"]
