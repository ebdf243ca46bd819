"""The table of a report: aligned, one line a row, cut to a width, coloured when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings

from cqrs_ddd_health.cli.table import table
from cqrs_ddd_health.domain.models import (
    ComponentStatus,
    Failure,
    HealthReport,
    HeartbeatRecord,
    overall_status,
)
from tests.examples import examples

from .strategies import reports

AT = datetime(2026, 3, 1, 12, 30, 5, 999_999, UTC)
RAISED = Failure(kind="exception", exception_type="OSError", message="it is gone", since=AT)
SLOW = Failure(kind="reported", message="slow: 12 jobs wait", since=AT)
STALE = Failure(kind="stale", since=AT)


def up(name: str, latency_seconds: float = 0.0042) -> ComponentStatus:
    return ComponentStatus(
        name=name, state="up", since=AT, checked_at=AT, latency_seconds=latency_seconds
    )


ROWS = (
    up("database", 1.2345),
    ComponentStatus(name="search", state="down", critical=False, since=AT, failure=RAISED),
    ComponentStatus(name="queue", state="degraded", since=AT, failure=SLOW),
    ComponentStatus(name="relay", kind="worker", state="down", since=AT, failure=STALE),
)
BEATS = (
    HeartbeatRecord(worker="never", state="down", timeout_seconds=60.0),
    HeartbeatRecord(
        worker="relay",
        instance="host:1",
        state="up",
        last_seen=AT - timedelta(seconds=90.25),
        age_seconds=90.25,
        timeout_seconds=1200.0,
        phase="sending",
    ),
)


def of(*rows: ComponentStatus, **more: object) -> HealthReport:
    given = {"status": overall_status(rows), "components": rows, "timestamp": AT, **more}
    return HealthReport.model_validate(given)


def test_a_row_of_every_sort() -> None:
    assert (
        table(of(*ROWS, heartbeats=BEATS, heartbeats_omitted=1_200))
        == """\
COMPONENT  STATE        LATENCY  SINCE                 FAILURE    REASON
database   up        1,234.5 ms  2026-03-01 12:30:05Z
search     down                  2026-03-01 12:30:05Z  exception  OSError: it is gone
queue      degraded              2026-03-01 12:30:05Z  reported   slow: 12 jobs wait
relay      down                  2026-03-01 12:30:05Z  stale

WORKER  STATE         AGE  TIMEOUT  INSTANCE  PHASE
never   down   never seen     60 s
relay   up         90.2 s  1,200 s  host:1    sending
and 1,200 more

unhealthy: 1 of 4 up
"""
    )


def test_a_report_without_workers_has_one_section() -> None:
    assert (
        table(of(up("a")))
        == """\
COMPONENT  STATE  LATENCY  SINCE                 FAILURE  REASON
a          up      4.2 ms  2026-03-01 12:30:05Z

healthy: 1 of 1 up
"""
    )


def test_workers_that_are_all_left_out_are_counted() -> None:
    assert "\nand 3 more\n" in table(of(up("a"), heartbeats_omitted=3))


def test_names_are_aligned_by_the_columns_that_they_take() -> None:
    names = ("データ", "cafe\u0301", "plain")
    lines = table(of(*map(up, names))).splitlines()[1:4]
    assert [line.split(" up ")[0] for line in lines] == [
        "データ    ",
        "cafe\u0301      ",
        "plain     ",
    ]


def test_only_the_reason_is_cut() -> None:
    report = of(*ROWS)
    whole = table(report)
    widest = max(map(len, whole.splitlines()))
    assert table(report, width=widest) == whole
    lines = table(report, width=widest - 3).splitlines()
    assert max(map(len, lines)) == widest - 3
    assert [line for line in lines if line.endswith("OSError: it is …")]
    narrow = table(report, width=10).splitlines()
    assert [line.rpartition("  ")[2] for line in narrow[2:4]] == ["…", "…"]
    assert [line[:8].strip() for line in narrow[1:4]] == ["database", "search", "queue"]


def test_a_wide_reason_is_cut_to_its_columns() -> None:
    failure = Failure(kind="reported", message="データ" * 20, since=AT)
    report = of(ComponentStatus(name="a", state="down", since=AT, failure=failure))
    (row,) = [line for line in table(report, width=80).splitlines() if "データ" in line]
    assert row.endswith("…")
    assert 79 <= sum(2 if character in "データ" else 1 for character in row) <= 80


def test_colours_are_around_states_only_and_change_nothing_else() -> None:
    report = of(*ROWS, heartbeats=BEATS)
    coloured = table(report, coloured=True)
    assert coloured.count("\x1b[32m") == 2
    assert coloured.count("\x1b[33m") == 1
    assert coloured.count("\x1b[31m") == 4
    assert "\x1b[31munhealthy\x1b[0m: 1 of 4 up" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == table(report)


@given(reports())
@settings(max_examples=examples(50))
def test_any_report_has_a_line_for_each_row(report: HealthReport) -> None:
    text = table(report)
    workers = 2 + len(report.heartbeats) if report.heartbeats else 0
    expected = 1 + len(report.components) + workers + bool(report.heartbeats_omitted) + 2
    assert text.count("\n") == expected
    assert text.splitlines()[-1].startswith(f"{report.status}: ")
    assert "\x1b" not in text
