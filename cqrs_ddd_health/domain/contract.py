"""The dicts that users have always known, each derived from one typed report."""

from __future__ import annotations

from .models import ComponentStatus, HealthReport
from .selection import Selection
from .wire import ReadyDict, StatusDict, UpDown

__all__ = ["components_dict", "is_ready", "ready_dict", "status_dict"]

_READY = Selection("ready", frozenset())


def components_dict(report: HealthReport) -> dict[str, UpDown]:
    """Return each component as "up" or "down"; "degraded" reads "up".

    A check and a worker of one name show the worse of the two. The row of a heartbeat store never
    reads "down": that it cannot be read is no outage of anything.
    """
    components: dict[str, UpDown] = {}
    for row in report.components:
        if components.get(row.name) != "down":
            components[row.name] = _up_or_down(row)
    return components


def status_dict(report: HealthReport) -> StatusDict:
    """Return the report as the contract's dict: "healthy" only if every component reads "up"."""
    components = components_dict(report)
    return {
        "status": "unhealthy" if "down" in components.values() else "healthy",
        "components": components,
        "timestamp": report.timestamp.isoformat(),
        "heartbeats": _heartbeats(report),
    }


def ready_dict(report: HealthReport) -> ReadyDict:
    """Return whether the process may get traffic, from a report of what gates that."""
    components = components_dict(report)
    return {
        "ready": not report.draining and "down" not in components.values(),
        "components": components,
    }


def is_ready(report: HealthReport) -> bool:
    """Return the same as a yes or no, from a report of everything."""
    gates = (
        row
        for row in report.components
        if _READY.takes(critical=row.critical, probes=row.probes, tags=row.tags)
    )
    return not report.draining and all(_up_or_down(row) == "up" for row in gates)


def _up_or_down(row: ComponentStatus) -> UpDown:
    return "down" if row.state == "down" and row.kind != "store" else "up"


def _heartbeats(report: HealthReport) -> dict[str, str | None]:
    """Return by worker when the youngest of its instances was seen; null for never."""
    seen: dict[str, str | None] = {}
    for record in sorted(report.heartbeats, key=lambda record: record.age_seconds or 0.0):
        last_seen = None if record.last_seen is None else record.last_seen.isoformat()
        seen[record.worker] = seen.get(record.worker) or last_seen
    return seen
