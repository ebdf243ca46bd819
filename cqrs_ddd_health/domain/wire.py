"""Dicts as types: the contract's, which the dict API returns and probes answer, and those of
`application/health+json`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, with_config
from pydantic.config import JsonDict
from typing_extensions import TypedDict

from .fields import RFC_3339, Seconds

__all__ = [
    "ErrorDict",
    "HealthJsonDict",
    "LiveDict",
    "MeasurementDict",
    "PassWarnFail",
    "ReadyDict",
    "StatusDict",
    "UpDown",
]

UpDown: TypeAlias = Literal["up", "down"]
PassWarnFail: TypeAlias = Literal["pass", "warn", "fail"]


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text)  # the pattern does not know how many days a month has
    return text


_Timestamp: TypeAlias = Annotated[
    str,
    Field(pattern=RFC_3339),
    AfterValidator(_is_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

_ALL_UP: JsonDict = {"properties": {"components": {"additionalProperties": {"const": "up"}}}}


@with_config(
    ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "if": _ALL_UP,
            "then": {"properties": {"status": {"const": "healthy"}}},
            "else": {"properties": {"status": {"const": "unhealthy"}}},
        },
    )
)
class StatusDict(TypedDict):
    """What `await registry.status()` returns, and the body of `/health`."""

    status: Literal["healthy", "unhealthy"]
    components: dict[str, UpDown]
    timestamp: _Timestamp
    heartbeats: dict[str, _Timestamp | None]


@with_config(
    ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"if": {"properties": {"ready": {"const": True}}}, "then": _ALL_UP},
    )
)
class ReadyDict(TypedDict):
    """The body of `/health/ready` and `/health/startup`: what gates them, and what follows."""

    ready: bool
    components: dict[str, UpDown]


@with_config(ConfigDict(extra="forbid", strict=True))
class LiveDict(TypedDict):
    """The body of `/health/live`; "dead" only if a check that gates live says so, or the event
    loop that owns the checks has not answered for long."""

    status: Literal["alive", "dead"]


@with_config(ConfigDict(extra="forbid", strict=True))
class ErrorDict(TypedDict):
    """The body of an answer that is none: an unknown path, a method that is not allowed."""

    error: str


@with_config(ConfigDict(extra="forbid", strict=True))
class MeasurementDict(TypedDict):
    """An entry below `checks` of `application/health+json`: a component, or one of a worker."""

    componentId: str
    componentType: Literal["component", "datastore"]
    status: PassWarnFail
    observedValue: NotRequired[Seconds]
    observedUnit: NotRequired[Literal["s"]]
    time: NotRequired[_Timestamp]
    output: NotRequired[str]


@with_config(ConfigDict(extra="forbid", strict=True))
class HealthJsonDict(TypedDict):
    """The body of `/health/report` for whoever accepts `application/health+json`, after
    draft-inadarei-api-health-check-06."""

    status: PassWarnFail
    serviceId: NotRequired[str]
    version: NotRequired[str]
    notes: NotRequired[list[str]]
    checks: dict[str, list[MeasurementDict]]
