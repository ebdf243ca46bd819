"""When each alert fires and when it stays quiet, as series of samples, one every 15 s.

Alerts are evaluated every 30 s, at 0 s for the first time: so it is with the default values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["CASES", "JOB", "Case", "Fires"]

JOB = "cqrs-ddd-app"
_STATUS = f'cqrs_health_status{{job="{JOB}"}}'


class Fires(NamedTuple):
    """The labels of an alert that fires, and its value as it is told."""

    severity: str
    value: str
    component: str = ""
    worker: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """All labels but its name."""
        named = {"component": self.component, "worker": self.worker}
        return {
            "job": JOB,
            "severity": self.severity,
            **{name: value for name, value in named.items() if value},
        }


class Case(NamedTuple):
    """What one alert does at some time, given these samples."""

    alert: str
    promise: str
    at: str
    series: Mapping[str, str]
    fires: Fires | None = None


def _of(name: str, **labels: str) -> str:
    """Return a series of the job of ours, unless it is of another job."""
    said = {"job": JOB, "instance": "a:9000", **labels}
    return f"{name}{{{', '.join(f'{label}={value!r}' for label, value in said.items())}}}"


def _up(component: str = "database", **labels: str) -> str:
    return _of("cqrs_health_component_up", component=component, **labels)


def _critical(component: str = "database", **labels: str) -> str:
    return _of("cqrs_health_component_critical", component=component, **labels)


def _age(**labels: str) -> str:
    return _of("cqrs_health_heartbeat_age_seconds", worker="outbox", **labels)


def _instances(**labels: str) -> str:
    return _of("cqrs_health_worker_instances", worker="outbox", state="up", **labels)


def _checked(**labels: str) -> str:
    return _of("cqrs_health_last_check_timestamp_seconds", component="database", **labels)


def _runs(*, slow: int, component: str = "database") -> dict[str, str]:
    """Return the samples of 100 runs every 15 s, so many of which are slow."""
    name = "cqrs_health_check_duration_seconds"
    return {
        _of(f"{name}_bucket", component=component, le="2.5"): f"0+{100 - slow}x40",
        _of(f"{name}_bucket", component=component, le="5.0"): "0+100x40",
        _of(f"{name}_count", component=component): "0+100x40",
    }


def _store(state: str, value: str) -> dict[str, str]:
    name = "cqrs_health_component_state"
    return {
        _of(name, component="heartbeat_store", state=each): value if each == state else "0x20"
        for each in ("up", "degraded", "down")
    }


_DOWN = Fires("critical", "1", "database")

CASES = (
    Case("CqrsHealthComponentDown", "at two evaluations", "90s", {_up(): "1x3 0x20"}, _DOWN),
    Case(
        "CqrsHealthComponentDown",
        "it is seen by one of two",
        "90s",
        {_up(): "0x20", _up(instance="b:9000"): "1x20"},
        _DOWN,
    ),
    Case("CqrsHealthComponentDown", "not at one evaluation", "60s", {_up(): "1x3 0x20"}),
    Case("CqrsHealthComponentDown", "not after a blip", "120s", {_up(): "1x3 0x1 1x20"}),
    Case("CqrsHealthComponentDown", "not in another job", "120s", {_up(job="other"): "0x20"}),
    Case(
        "CqrsHealthComponentDown",
        "it is critical",
        "90s",
        {_up(): "0x20", _critical(): "1x20"},
        _DOWN,
    ),
    Case(
        "CqrsHealthComponentDown",
        "it is critical to one of two",
        "90s",
        {
            _up(): "0x20",
            _critical(): "0x20",
            _up(instance="b:9000"): "0x20",
            _critical(instance="b:9000"): "1x20",
        },
        _DOWN,
    ),
    Case(
        "CqrsHealthComponentDown",
        "not if it is not critical",
        "120s",
        {_up(): "0x20", _critical(): "0x20", _critical("redis"): "1x20"},
    ),
    Case(
        "CqrsHealthNoncriticalDown",
        "if it is not critical",
        "90s",
        {_up(): "1x3 0x20", _critical(): "0x20", _critical("redis"): "1x20"},
        Fires("warning", "1", "database"),
    ),
    Case(
        "CqrsHealthNoncriticalDown",
        "not at one evaluation",
        "60s",
        {_up(): "1x3 0x20", _critical(): "0x20"},
    ),
    Case(
        "CqrsHealthNoncriticalDown",
        "not if it is critical, or up",
        "120s",
        {_up(): "0x20", _critical(): "1x20", _up("redis"): "1x20", _critical("redis"): "0x20"},
    ),
    Case("CqrsHealthNoncriticalDown", "not if nobody says so", "120s", {_up(): "0x20"}),
    Case(
        "CqrsHealthHeartbeatOld",
        "after twice the timeout",
        "150s",
        {_age(): "0+15x20"},
        Fires("critical", "2m 30s", "outbox", "outbox"),
    ),
    Case(
        "CqrsHealthHeartbeatOld",
        "if it is critical to one of two",
        "150s",
        {
            _age(): "0+15x20",
            _critical("outbox"): "0x20",
            _critical("outbox", instance="b:9000"): "1x20",
        },
        Fires("critical", "2m 30s", "outbox", "outbox"),
    ),
    Case(
        "CqrsHealthHeartbeatOld",
        "not if it is not critical",
        "150s",
        {_age(): "0+15x20", _critical("outbox"): "0x20", _critical("sagas"): "1x20"},
    ),
    Case("CqrsHealthHeartbeatOld", "not before", "120s", {_age(): "0+15x20"}),
    Case(
        "CqrsHealthHeartbeatOld",
        "not if somebody saw it since",
        "150s",
        {_age(): "0+15x20", _age(instance="b:9000"): "5x20"},
    ),
    Case(
        "CqrsHealthWorkerBelowMinimum",
        "while it is down with one up",
        "90s",
        {_instances(): "1x20", _up("outbox"): "1x3 0x20"},
        Fires("critical", "1", "outbox"),
    ),
    Case(
        "CqrsHealthWorkerBelowMinimum",
        "not if it is not critical",
        "90s",
        {_instances(): "1x20", _up("outbox"): "0x20", _critical("outbox"): "0x20"},
    ),
    Case(
        "CqrsHealthWorkerBelowMinimum",
        "not at one evaluation",
        "60s",
        {_instances(): "1x20", _up("outbox"): "1x3 0x20"},
    ),
    Case(
        "CqrsHealthWorkerBelowMinimum",
        "not if none is up",
        "90s",
        {_instances(): "0x20", _up("outbox"): "0x20"},
    ),
    Case(
        "CqrsHealthWorkerBelowMinimum",
        "not while one is enough",
        "90s",
        {_instances(): "1x20", _up("outbox"): "1x20", _up("other"): "0x20"},
    ),
    Case(
        "CqrsHealthNoData",
        "if nothing is scraped",
        "30s",
        {_of("cqrs_health_status", job="other"): "0x20", _of("up"): "0x20"},
        Fires("critical", "1"),
    ),
    Case(
        "CqrsHealthNoData",
        "if there is nothing of health",
        "30s",
        {_of("up"): "1x20"},
        Fires("critical", "1"),
    ),
    Case("CqrsHealthNoData", "not at once", "0s", {}),
    Case("CqrsHealthNoData", "not if one answers", "120s", {_of("cqrs_health_status"): "2x20"}),
    Case(
        "CqrsHealthTargetDown",
        "if two of three do not answer",
        "60s",
        {_of("up", instance=name): f"{name == 'a':d}x20" for name in "abc"},
        Fires("warning", "2"),
    ),
    Case("CqrsHealthTargetDown", "not after one scrape", "60s", {_of("up"): "1x3 0 1x20"}),
    Case("CqrsHealthTargetDown", "not in another job", "60s", {_of("up", job="other"): "0x20"}),
    Case(
        "CqrsHealthReportOld",
        "if a process checks no more",
        "150s",
        {_checked(): "0x20", _checked(instance="b:9000"): "0+15x20"},
        Fires("warning", "2m 30s", "database"),
    ),
    Case("CqrsHealthReportOld", "not at one evaluation", "120s", {_checked(): "0x20"}),
    Case(
        "CqrsHealthReportOld",
        "not while it is checked at its slowest",
        "300s",
        {_checked(): "0x2 38x2 76x2 114x2 152x3 190x2 228x2 266x10"},
    ),
    Case(
        "CqrsHealthReadyFlapping",
        "at four changes",
        "60s",
        {_of("cqrs_health_ready"): "1 0 1 0 1"},
        Fires("warning", "4"),
    ),
    Case("CqrsHealthReadyFlapping", "not at three", "60s", {_of("cqrs_health_ready"): "1 0 1 0 0"}),
    Case(
        "CqrsHealthReadyFlapping",
        "not while processes are replaced",
        "120s",
        {_of("cqrs_health_ready", instance=name): "0 1 0" for name in "abcde"},
    ),
    Case(
        "CqrsHealthCheckSlow",
        "if one run in ten is",
        "120s",
        _runs(slow=10) | _runs(slow=0, component="redis"),
        Fires("warning", "10%", "database"),
    ),
    Case("CqrsHealthCheckSlow", "not at one evaluation", "30s", _runs(slow=10)),
    Case("CqrsHealthCheckSlow", "not if one in twenty-five is", "120s", _runs(slow=4)),
    Case(
        "CqrsHealthCheckHung",
        "at two evaluations",
        "60s",
        {_of("cqrs_health_hung_checks", instance=name): "0 1x20" for name in "ab"},
        Fires("warning", "2"),
    ),
    Case(
        "CqrsHealthCheckHung",
        "not at one evaluation",
        "30s",
        {_of("cqrs_health_hung_checks"): "0 1x20"},
    ),
    Case(
        "CqrsHealthCheckHung",
        "not if it ends by then",
        "60s",
        {_of("cqrs_health_hung_checks"): "0 1 1 0 0"},
    ),
    Case(
        "CqrsHealthStoreFailing",
        "while it is degraded",
        "30s",
        _store("degraded", "1x20"),
        Fires("warning", "1", "heartbeat_store"),
    ),
    Case(
        "CqrsHealthStoreFailing",
        "while it is down",
        "30s",
        _store("down", "1x20"),
        Fires("warning", "1", "heartbeat_store"),
    ),
    Case("CqrsHealthStoreFailing", "not at one evaluation", "0s", _store("down", "1x20")),
    Case("CqrsHealthStoreFailing", "not while it is up", "60s", _store("up", "1x20")),
)
