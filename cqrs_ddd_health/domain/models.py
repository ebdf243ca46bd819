"""The answer, typed: what is healthy, what is not, and why.

Every model is strict, frozen and closed, and one that contradicts itself cannot be built. Times
are UTC, durations are seconds. `HealthReport.model_validate_json(report.model_dump_json())`
equals `report`, always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from .details import Details, Given
from .fields import ClassName, Count, Seconds, StrictModel, Text, UtcDatetime, WireModel
from .names import Name

__all__ = [
    "CheckResult",
    "ComponentKind",
    "ComponentState",
    "ComponentStatus",
    "Failure",
    "FailureKind",
    "HealthReport",
    "HeartbeatRecord",
    "Probe",
    "ReportStatus",
    "ServiceInfo",
    "StrictModel",
    "overall_status",
    "severity",
]

ComponentState: TypeAlias = Literal["up", "degraded", "down"]
ReportStatus: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
ComponentKind: TypeAlias = Literal["check", "worker", "store"]
Probe: TypeAlias = Literal["live", "ready", "startup"]
FailureKind: TypeAlias = Literal[
    "falsy",
    "exception",
    "timeout",
    "hung",
    "stale",
    "missing",
    "pending",
    "unavailable",
    "reported",
]

# The one order of the states. A string enumeration would compare by letters.
_SEVERITY: dict[ComponentState, int] = {"up": 0, "degraded": 1, "down": 2}
_CLOCK_TOLERANCE_SECONDS = 0.001  # float seconds against datetime's microseconds


def severity(state: ComponentState) -> int:
    """Return the rank of a state: 0 up, 1 degraded, 2 down; the larger one is the worse one."""
    return _SEVERITY[state]


class CheckResult(StrictModel, frozen=True):
    """What a `HealthCheck` returns: a state of its own choosing, with details and words.

    Anything may be put into `details`. Of a mapping of more than 32 entries the first ones are
    taken, and the others counted; what is not JSON, or too much of it, is made safe before it
    reaches a report. `message` is cut to 500 characters there and, like an exception's text, not
    shown to strangers.
    """

    state: ComponentState = "up"
    details: Annotated[Mapping[str, object], Given] = Field(default_factory=dict)
    message: str | None = None


class Failure(WireModel, frozen=True):
    """Why a component is not up."""

    model_config: ClassVar[ConfigDict] = ConfigDict(title="Failure")

    kind: FailureKind = Field(
        description=(
            "falsy: the check said no. exception: it raised. timeout: it took too long. "
            "hung: it was cut off and has not ended yet. stale: the last beat is too old. "
            "missing: it is required and was never seen. pending: it has not answered yet. "
            "unavailable: nobody could look. reported: the check said so itself."
        )
    )
    exception_type: ClassName | None = Field(
        default=None, description="The name of the exception's class, without its module."
    )
    message: Text | None = Field(
        default=None, description="What the exception or the check said; null unless asked for."
    )
    since: UtcDatetime = Field(description="Since when it has failed in this way.")


class ComponentStatus(WireModel, frozen=True):
    """One row of the report: a check, a worker, or the heartbeat store."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        title="ComponentStatus",
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"state": {"const": "up"}}},
                    "then": {
                        "properties": {
                            "failure": {"type": "null"},
                            "consecutive_failures": {"const": 0},
                            "checked_at": {"type": "string"},
                        }
                    },
                    "else": {"properties": {"failure": {"type": "object"}}},
                },
                {
                    "if": {"properties": {"checked_at": {"type": "null"}}},
                    "then": {"properties": {"latency_seconds": {"type": "null"}}},
                },
                {
                    "if": {"properties": {"kind": {"const": "store"}}},
                    "then": {"properties": {"critical": {"const": False}}},
                },
                {
                    "if": {"properties": {"kind": {"const": "worker"}}},
                    "then": {"properties": {"latency_seconds": {"type": "null"}}},
                },
            ]
        },
    )

    name: Name = Field(description="Unique among the components of its kind.")
    kind: ComponentKind = "check"
    state: ComponentState
    critical: bool = Field(
        default=True,
        validate_default=True,
        description="Whether its being down makes the report unhealthy; never for a store.",
    )
    tags: tuple[Name, ...] = ()
    probes: tuple[Probe, ...] = Field(default=(), description="The probes that it gates.")
    since: UtcDatetime = Field(description="Since when it has been in this state.")
    checked_at: UtcDatetime | None = Field(
        default=None, description="When its last outcome was known; null if there is none yet."
    )
    latency_seconds: Seconds | None = Field(
        default=None,
        validate_default=True,
        description="How long its last run took; null where nothing ran.",
    )
    failure: Failure | None = Field(
        default=None, validate_default=True, description="Why it is not up; null when it is."
    )
    consecutive_failures: Count = Field(
        default=0, validate_default=True, description="Failed runs in a row up to now."
    )
    details: Details = Field(default=Details(), description="What the check tells of itself.")

    # Field validators, not one for the model: pydantic runs a model's own validators again each
    # time an instance is put into a report, and reports are built for every asker.
    @field_validator("critical")
    @classmethod
    def _no_store_is_critical(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("kind") == "store":
            raise ValueError("a store that cannot be read is news, not an outage: never critical")
        return value

    @field_validator("latency_seconds")
    @classmethod
    def _latency_is_of_a_run(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("kind") == "worker":
            raise ValueError("a worker is never run, so it has no latency")
        if value is not None and info.data.get("checked_at") is None:
            raise ValueError("a latency without checked_at")
        return value

    @field_validator("failure")
    @classmethod
    def _failure_follows_state(cls, value: Failure | None, info: ValidationInfo) -> Failure | None:
        state = info.data.get("state")
        if state == "up" and value is not None:
            raise ValueError("a component that is up has no failure")
        if state in {"degraded", "down"} and value is None:
            raise ValueError(f"a component that is {state} needs a failure")
        if state == "up" and info.data.get("checked_at", ...) is None:
            raise ValueError("a component that nobody looked at cannot be up")
        return value

    @field_validator("consecutive_failures")
    @classmethod
    def _no_failures_when_up(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("state") == "up":
            raise ValueError("a component that is up has no failures in a row")
        return value

    def measured(self, checked_at: datetime, latency_seconds: float) -> ComponentStatus:
        """Return this row with a later measurement and everything else as it was.

        Equal to building and validating it whole, and some four times as fast: only the two new
        values are looked at. Values that would not be accepted as they are go the long way and
        are refused there.
        """
        if (
            type(latency_seconds) is float
            and 0.0 <= latency_seconds < math.inf
            and checked_at.tzinfo is UTC
            and self.latency_seconds is not None  # so it is no worker: that never has one
        ):
            row = _new_row(ComponentStatus)
            values = self.__dict__.copy()
            values["checked_at"] = checked_at
            values["latency_seconds"] = latency_seconds
            _set_dict(row, values)
            _set_fields_set(row, _ALL_FIELDS)
            _set_extra(row, None)
            _set_private(row, None)
            return row
        changed = {"checked_at": checked_at, "latency_seconds": latency_seconds}
        return ComponentStatus.model_validate({**self.__dict__, **changed})


_new_row = ComponentStatus.__new__
_set_dict = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__
_ALL_FIELDS = set(ComponentStatus.model_fields)


class HeartbeatRecord(WireModel, frozen=True):
    """The last beat of one instance of a worker, as old as it was when the report was made."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        title="HeartbeatRecord",
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"last_seen": {"type": "null"}}},
                    "then": {"properties": {"age_seconds": {"type": "null"}}},
                    "else": {"properties": {"age_seconds": {"type": "number"}}},
                },
                {
                    "if": {"properties": {"state": {"const": "up"}}},
                    "then": {
                        "properties": {
                            "age_seconds": {"type": "number"},
                            "timeout_seconds": {"exclusiveMinimum": 0},
                        }
                    },
                },
            ]
        },
    )

    worker: Name
    instance: Name | None = Field(
        default=None,
        description="The process that beat; null if none was ever seen, or if it is not shown.",
    )
    state: ComponentState
    last_seen: UtcDatetime | None = Field(
        default=None, description="The report's time less the age; null if it was never seen."
    )
    age_seconds: Seconds | None = Field(
        default=None, validate_default=True, description="The time since the last beat."
    )
    timeout_seconds: Seconds = Field(description="The age beyond which it is stale.")
    publish_interval_seconds: Seconds = Field(
        default=0.0,
        description="How often its process publishes its age; granted on top of the timeout.",
    )
    phase: Name | None = Field(default=None, description="What it said that it is doing.")
    progress: Count | None = Field(default=None, description="What it counted, if it counts.")

    @model_validator(mode="after")
    def _age_follows(self) -> HeartbeatRecord:
        if (self.last_seen is None) != (self.age_seconds is None):
            raise ValueError("last_seen and age_seconds are known together or not at all")
        if self.state == "up":
            limit = self.timeout_seconds + self.publish_interval_seconds
            if self.age_seconds is None or not self.timeout_seconds or self.age_seconds > limit:
                raise ValueError("a beat that is missing or too old is not up")
        return self


class ServiceInfo(WireModel, frozen=True):
    """Who answers."""

    model_config: ClassVar[ConfigDict] = ConfigDict(title="ServiceInfo")

    name: Name | None = None
    version: Name | None = None
    instance: Name | None = Field(default=None, description="The process that made the report.")


_CRITICAL_DOWN: JsonDict = {
    "contains": {"properties": {"critical": {"const": True}, "state": {"const": "down"}}}
}


_NOT_UP: JsonDict = {"contains": {"properties": {"state": {"enum": ["degraded", "down"]}}}}


class HealthReport(WireModel, frozen=True):
    """Is it healthy, and if not, what broke."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        title="HealthReport",
        json_schema_extra={
            "if": {"properties": {"components": _CRITICAL_DOWN}},
            "then": {"properties": {"status": {"const": "unhealthy"}}},
            "else": {
                "if": {"properties": {"components": _NOT_UP}},
                "then": {"properties": {"status": {"const": "degraded"}}},
                "else": {"properties": {"status": {"const": "healthy"}}},
            },
        },
    )

    status: ReportStatus = Field(
        description="unhealthy if a critical component is down, else degraded if one is not up."
    )
    components: tuple[ComponentStatus, ...]
    heartbeats: tuple[HeartbeatRecord, ...] = Field(
        default=(), description="The instances of all workers, worst first, up to a limit."
    )
    heartbeats_omitted: Count = Field(
        default=0, description="How many instances the limit left out."
    )
    timestamp: UtcDatetime = Field(description="When the report was made.")
    duration_seconds: Seconds = Field(default=0.0, description="How long the asker waited for it.")
    draining: bool = Field(
        default=False, description="Whether the process is leaving: it is not ready then."
    )
    service: ServiceInfo = ServiceInfo()

    @model_validator(mode="after")
    def _follows_from_its_parts(self) -> HealthReport:
        follows = overall_status(self.components)
        if self.status != follows:
            raise ValueError(f"status is {self.status!r} but follows as {follows!r}")
        rows = self.components
        # A name alone is mostly unique already, and this runs for every row of every report.
        if len({row.name for row in rows}) != len(rows) and len(
            {(row.name, row.kind) for row in rows}
        ) != len(rows):
            raise ValueError("two components of one kind have the same name")
        for beat in self.heartbeats:
            _require_seen_at(beat, self.timestamp)
        return self

    def component(self, name: str) -> ComponentStatus | None:
        """Return the row of that name, the worst one if a check and a worker share it."""
        rows = [row for row in self.components if row.name == name]
        return max(rows, key=lambda row: severity(row.state), default=None)


def _require_seen_at(beat: HeartbeatRecord, timestamp: datetime) -> None:
    if beat.last_seen is None or beat.age_seconds is None:
        return
    # In float seconds: an age may be longer than a `timedelta` can be.
    seen_before = (timestamp - beat.last_seen).total_seconds()
    if abs(seen_before - beat.age_seconds) > _CLOCK_TOLERANCE_SECONDS:
        raise ValueError(f"last_seen of {beat.worker!r} is not the report's time less its age")


def overall_status(components: Iterable[ComponentStatus]) -> ReportStatus:
    """Return what follows from the rows: the worst of them, a non-critical one counted as degraded.

    No rows are healthy: nothing that was asked is broken.
    """
    status: ReportStatus = "healthy"
    for row in components:
        if row.state != "up":
            if row.state == "down" and row.critical:
                return "unhealthy"
            status = "degraded"
    return status
