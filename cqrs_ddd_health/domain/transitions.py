"""Changes of state: what listeners are told and what the log says."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from typing import Protocol

from pydantic import Field

from .evaluation import CheckState
from .fields import Seconds, StrictModel, UtcDatetime
from .models import ComponentKind, ComponentState, Failure
from .names import Name

__all__ = [
    "LOGGER",
    "Transition",
    "asked_with",
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


class _SpanContext(Protocol):
    """What OpenTelemetry says of where a span stands."""

    is_valid: bool
    trace_id: int
    span_id: int


class _Span(Protocol):
    def get_span_context(self) -> _SpanContext: ...


def asked_with(context: Context) -> Mapping[str, object]:
    """Return what the log is to say of whoever asked, as far as it is known.

    `correlation_id` is what a context variable of that name holds there, whichever library of the
    application sets it. `trace_id` and `span_id`, 32 and 16 hexadecimal digits, are those of the
    span of OpenTelemetry that is current there.
    """
    known = {
        variable.name: value
        for variable, value in context.items()
        if variable.name == "correlation_id" and value is not None
    }
    return {**known, **_span_ids(context)}


def _span_ids(context: Context) -> Mapping[str, str]:
    # Looked up, not imported: where the application has not imported it there is no span.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    with suppress(
        BaseException
    ):  # a tracer is the application's; what it does is not the asker's loss
        span: _Span = context.copy().run(trace.get_current_span)
        at = span.get_span_context()
        if at.is_valid:
            return {"trace_id": f"{at.trace_id:032x}", "span_id": f"{at.span_id:016x}"}
    return {}


def log(transition: Transition, asked_with: Mapping[str, object]) -> None:
    """Log a transition as one record of the logger `LOGGER`, its parts as attributes.

    `component`, `component_kind`, `from_state` (None at first), `to_state`, `failure_kind`,
    `since` (ISO 8601), `latency_seconds`, and what `asked_with` returned.
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
            **asked_with,
            "component": transition.name,
            "component_kind": transition.kind,
            "from_state": transition.before,
            "to_state": transition.after,
            "failure_kind": failure.kind if failure else None,
            "since": transition.at.isoformat(),
            "latency_seconds": transition.latency_seconds,
        },
    )


def _level_of(transition: Transition) -> int:
    return logging.INFO if transition.after == "up" else logging.WARNING
