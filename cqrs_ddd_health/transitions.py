"""Changes of state: what listeners are told and what the log says."""

from __future__ import annotations

import logging
from contextvars import Context
from datetime import datetime

from pydantic import Field

from .evaluation import CheckState
from .models import ComponentKind, ComponentState, Failure
from .names import Name
from .strict import Seconds, StrictModel, UtcDatetime

__all__ = [
    "LOGGER",
    "Transition",
    "correlation_id",
    "is_logged",
    "log",
    "show_on_stderr",
    "transition",
]

LOGGER = "cqrs_ddd_health.transitions"

_logger = logging.getLogger(LOGGER)
# An application that configures no logging is not to find health on its stderr.
_logger.addHandler(logging.NullHandler())


class Transition(StrictModel, frozen=True):
    """One change of a component's state, as listeners are told of it."""

    name: Name
    kind: ComponentKind
    before: ComponentState | None = Field(description="None: this is its first verdict.")
    after: ComponentState
    at: UtcDatetime
    failure: Failure | None
    latency_seconds: Seconds | None = Field(
        default=None, description="How long the run took that changed it; None for a worker."
    )


def transition(
    name: str,
    kind: ComponentKind,
    before: CheckState | None,
    after: CheckState,
    at: datetime,
    *,
    latency_seconds: float | None = None,
) -> Transition | None:
    """Return what listeners are told, or `None` if the state is what it was."""
    if before is not None and before.state == after.state:
        return None
    return Transition(
        name=name,
        kind=kind,
        before=None if before is None else before.state,
        after=after.state,
        at=at,
        failure=after.failure,
        latency_seconds=latency_seconds,
    )


def show_on_stderr() -> None:
    """Show transitions on stderr, good ones too, unless the application shows its log somewhere."""
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)


def is_logged(transition: Transition) -> bool:
    """Whether the logger takes a transition: good news are INFO, bad ones WARNING."""
    return _logger.isEnabledFor(_level_of(transition))


def correlation_id(context: Context) -> object:
    """Return what a context variable named `correlation_id` holds there, or `None`.

    Looked up by name, so that it is found whichever library of the application sets it.
    """
    found = (context[variable] for variable in context if variable.name == "correlation_id")
    return next(found, None)


def log(transition: Transition, correlation: object) -> None:
    """Log a transition as one record of the logger `LOGGER`, its parts as attributes.

    `component`, `component_kind`, `from_state` (None at first), `to_state`, `failure_kind`,
    `since` (ISO 8601), `latency_seconds`, and `correlation_id` if there is one.
    """
    failure = transition.failure
    words = [failure.kind, failure.exception_type, failure.message] if failure else []
    reason = ": ".join(word for word in words if word)
    _logger.log(
        _level_of(transition),
        "%s %r went from %s to %s%s",
        transition.kind,
        transition.name,
        transition.before or "unknown",
        transition.after,
        f" ({reason})" if reason else "",
        extra={
            "component": transition.name,
            "component_kind": transition.kind,
            "from_state": transition.before,
            "to_state": transition.after,
            "failure_kind": failure.kind if failure else None,
            "since": transition.at.isoformat(),
            "latency_seconds": transition.latency_seconds,
            **({} if correlation is None else {"correlation_id": correlation}),
        },
    )


def _level_of(transition: Transition) -> int:
    return logging.INFO if transition.after == "up" else logging.WARNING
