"""A report as a table, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import starmap
from typing import TypeAlias
from unicodedata import category, east_asian_width

from cqrs_ddd_health.domain.models import ComponentStatus, Failure, HealthReport, HeartbeatRecord
from cqrs_ddd_health.domain.redaction import safe_text

__all__ = ["table"]

Row: TypeAlias = tuple[str, ...]

COMPONENTS: Row = ("COMPONENT", "STATE", "LATENCY", "SINCE", "FAILURE", "REASON")
WORKERS: Row = ("WORKER", "STATE", "AGE", "TIMEOUT", "INSTANCE", "PHASE")
NUMBERS = {"LATENCY", "AGE", "TIMEOUT"}
STATE = 1  # where it stands in both

GREEN, YELLOW, RED = 32, 33, 31
_COLOURS = {
    "up": GREEN,
    "healthy": GREEN,
    "degraded": YELLOW,
    "down": RED,
    "unhealthy": RED,
}


def table(report: HealthReport, *, width: int | None = None, coloured: bool = False) -> str:
    """Return the components, the workers and, on the last line, the overall status.

    Latencies are in milliseconds, ages in seconds, times in UTC. The last column is cut where its
    line would be longer than `width` columns, and never if that is `None`. `coloured` puts ANSI
    colours around the states. Every line ends with a newline.
    """
    rows = report.components
    status = _painted(report.status, coloured=coloured)
    lines = [
        *_section(COMPONENTS, map(_component, rows), width, coloured=coloured),
        *_workers(report, width, coloured=coloured),
        "",
        f"{status}: {sum(row.state == 'up' for row in rows)} of {len(rows)} up",
    ]
    return "".join(f"{line}\n" for line in lines)


def _workers(report: HealthReport, width: int | None, *, coloured: bool) -> Iterable[str]:
    if report.heartbeats:
        yield ""
        yield from _section(WORKERS, map(_heartbeat, report.heartbeats), width, coloured=coloured)
    if report.heartbeats_omitted:
        yield f"and {report.heartbeats_omitted:,} more"


def _component(row: ComponentStatus) -> Row:
    latency = "" if row.latency_seconds is None else f"{row.latency_seconds * 1e3:,.1f} ms"
    kind, reason = ("", "") if row.failure is None else (row.failure.kind, _reason(row.failure))
    return row.name, row.state, latency, _moment(row.since), kind, reason


def _reason(failure: Failure) -> str:
    return safe_text(": ".join(filter(None, (failure.exception_type, failure.message))))


def _heartbeat(record: HeartbeatRecord) -> Row:
    age = "never seen" if record.age_seconds is None else f"{record.age_seconds:,.1f} s"
    timeout = f"{record.timeout_seconds:,g} s"
    return record.worker, record.state, age, timeout, record.instance or "", record.phase or ""


def _moment(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds").replace("+00:00", "Z")


def _section(
    header: Row, rows: Iterable[Row], width: int | None, *, coloured: bool
) -> Iterable[str]:
    lines = [header, *rows]
    sizes = [max(map(_columns, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = list(starmap(_padded, zip(line, sizes, header, strict=True)))
        cells[STATE] = _painted(cells[STATE], coloured=coloured)
        if width is not None:
            cells[-1] = _cut(line[-1], width - sum(sizes[:-1]) - 2 * len(sizes[:-1]))
        yield "  ".join(cells).rstrip()


def _padded(cell: str, size: int, heading: str) -> str:
    blanks = " " * (size - _columns(cell))
    return blanks + cell if heading in NUMBERS else cell + blanks


def _painted(word: str, *, coloured: bool) -> str:
    colour = _COLOURS.get(word.rstrip())
    return word if colour is None or not coloured else f"\x1b[{colour}m{word}\x1b[0m"


def _cut(text: str, room: int) -> str:
    if _columns(text) <= room:
        return text
    while text and _columns(text) >= room:
        text = text[:-1]
    return f"{text}…"


def _columns(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    return sum(map(_columns_of_one, text))


def _columns_of_one(character: str) -> int:
    if category(character) in {"Mn", "Me", "Cf"}:  # it is drawn onto the one before, or not at all
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
