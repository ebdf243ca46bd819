"""What a stranger may see of a report: the one redactor that every way out calls."""

from __future__ import annotations

from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.domain.details import EMPTY
from cqrs_ddd_health.domain.models import ComponentStatus, Failure, HealthReport, HeartbeatRecord
from cqrs_ddd_health.domain.transitions import Transition

__all__ = ["expose", "expose_component", "expose_transition"]


def expose(report: HealthReport, detail: Detail) -> HealthReport:
    """Return as much of `report` as `detail` lets out.

    `full` is everything, with the userinfo of URLs cut out of messages and details. Below it there
    are states, latencies, ages, the kind of a failure and the class of its exception; no messages,
    details, versions, nor anything that names a host or says what a worker is at. `authorized` by
    itself lets out no more than `safe` does: who is let in is shown `full`.
    """
    update: dict[str, object] = {
        "components": tuple(expose_component(row, detail) for row in report.components),
    }
    if detail != "full":
        update["heartbeats"] = tuple(map(_heartbeat, report.heartbeats))
        update["service"] = report.service.model_copy(update={"version": None, "instance": None})
    return report.model_copy(update=update)


def expose_transition(transition: Transition, detail: Detail) -> Transition:
    """Return as much of `transition` as `detail` lets out, by the same rules."""
    if detail == "full":
        return transition
    return transition.model_copy(update={"failure": _failure(transition.failure)})


def expose_component(row: ComponentStatus, detail: Detail) -> ComponentStatus:
    """Return as much of one row as `expose` leaves of it in a report."""
    if detail == "full":
        return row
    return row.model_copy(update={"failure": _failure(row.failure), "details": EMPTY})


def _failure(failure: Failure | None) -> Failure | None:
    return failure and failure.model_copy(update={"message": None})


def _heartbeat(record: HeartbeatRecord) -> HeartbeatRecord:
    return record.model_copy(update={"instance": None, "phase": None, "progress": None})
