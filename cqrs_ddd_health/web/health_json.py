"""The report as `application/health+json`: draft-inadarei-api-health-check-06.

Each component is an entry of `checks`: `database:responseTime` where something ran, and the name
alone where nothing did. The instances of a worker are in `worker:heartbeatAge`. The draft parts
names and measurements by a colon, so in such a key `%3A` stands for one that is in a name;
`componentId` has the name as it is. Durations are seconds.
"""

from __future__ import annotations

from datetime import datetime

from cqrs_ddd_health.domain.models import (
    ComponentState,
    ComponentStatus,
    HealthReport,
    HeartbeatRecord,
    ReportStatus,
)
from cqrs_ddd_health.domain.wire import HealthJsonDict, MeasurementDict, PassWarnFail

__all__ = ["health_json_dict"]

_OF_REPORT: dict[ReportStatus, PassWarnFail] = {
    "healthy": "pass",
    "degraded": "warn",
    "unhealthy": "fail",
}
_OF_COMPONENT: dict[ComponentState, PassWarnFail] = {
    "up": "pass",
    "degraded": "warn",
    "down": "fail",
}


def health_json_dict(shown: HealthReport) -> HealthJsonDict:
    """Return all that the draft has a place for."""
    body: HealthJsonDict = {"status": _OF_REPORT[shown.status], "checks": _checks(shown)}
    if shown.service.name is not None:
        body["serviceId"] = shown.service.name
    if shown.service.version is not None:
        body["version"] = shown.service.version
    notes = _notes(shown)
    if notes:
        body["notes"] = notes
    return body


def _checks(shown: HealthReport) -> dict[str, list[MeasurementDict]]:
    checks: dict[str, list[MeasurementDict]] = {}
    for row in shown.components:
        measurement = "" if row.latency_seconds is None else ":responseTime"
        checks.setdefault(f"{_key(row.name)}{measurement}", []).append(_component(row))
    for record in shown.heartbeats:
        checks.setdefault(f"{_key(record.worker)}:heartbeatAge", []).append(_instance(record))
    return checks


def _key(name: str) -> str:
    return name.replace(":", "%3A")


def _component(row: ComponentStatus) -> MeasurementDict:
    entry: MeasurementDict = {
        "componentId": row.name,
        "componentType": "datastore" if row.kind == "store" else "component",
        "status": _OF_COMPONENT[row.state],
    }
    if row.failure is not None:
        words = (row.failure.kind, row.failure.exception_type, row.failure.message)
        entry["output"] = ": ".join(word for word in words if word)
    return _observed(entry, row.latency_seconds, row.checked_at)


def _instance(record: HeartbeatRecord) -> MeasurementDict:
    entry: MeasurementDict = {
        "componentId": record.instance or record.worker,
        "componentType": "component",
        "status": _OF_COMPONENT[record.state],
    }
    return _observed(entry, record.age_seconds, record.last_seen)


def _observed(
    entry: MeasurementDict, seconds: float | None, at: datetime | None
) -> MeasurementDict:
    if seconds is not None:
        entry["observedValue"] = seconds
        entry["observedUnit"] = "s"
    if at is not None:
        entry["time"] = at.isoformat()
    return entry


def _notes(shown: HealthReport) -> list[str]:
    notes = ["it is leaving, and takes no more traffic"] if shown.draining else []
    if shown.heartbeats_omitted:
        notes.append(f"{shown.heartbeats_omitted} more instances of workers are not shown")
    return notes
