"""Reads what a check did into an `Outcome`: bounded, safe to show, with no exception kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import cast, get_args

from .details import json_safe
from .evaluation import SUCCESS, Outcome
from .models import CheckResult, ComponentState
from .redaction import class_name, safe_text

__all__ = ["HANGING", "NESTED", "outcome_of", "outcome_of_error", "timed_out"]

NESTED = Outcome("down", "falsy", message="it returned an awaitable of an awaitable, and so on")
HANGING = Outcome("down", "hung", message="it was cut off and has not ended yet")

_STATES: dict[str, ComponentState] = {state: state for state in get_args(ComponentState)}


def outcome_of(value: object) -> Outcome:
    """Read what a check returned: a `CheckResult`, or anything truthy or falsy.

    Raises:
        ValueError: if it is a `CheckResult` that was never validated, and would not be valid.
    """
    if isinstance(value, Generator | AsyncGenerator):
        return Outcome("down", "falsy", message="it returned a generator, and was never run")
    if isinstance(value, CheckResult):
        return _outcome_of_result(value)
    if value:
        return SUCCESS
    return Outcome("down", "falsy", message=f"it returned {class_name(value)}")


def _outcome_of_result(result: CheckResult) -> Outcome:
    # What `model_copy` and `model_construct` make of it may hold anything.
    state, message, details = map(_anything, (result.state, result.message, result.details))
    if not isinstance(state, str) or str.__str__(state) not in _STATES:
        raise _invalid("state", state, " or ".join(_STATES))
    if not isinstance(message, str | None):
        raise _invalid("message", message, "a text or None")
    if not isinstance(details, Mapping):
        raise _invalid("details", details, "a mapping")
    known, clean = _STATES[str.__str__(state)], json_safe(cast("object", details))
    if known == "up":
        return Outcome("up", details=clean)
    return Outcome(known, "reported", None, None if message is None else safe_text(message), clean)


def _anything(value: object) -> object:
    """Forget what type checkers know of it."""
    return value


def _invalid(field: str, value: object, right: str) -> ValueError:
    shown = (
        ascii(safe_text(value)) if isinstance(value, str) else f"an instance of {class_name(value)}"
    )
    return ValueError(f"the {field} of the CheckResult is {shown}, and must be {right}")


def outcome_of_error(error: BaseException) -> Outcome:
    """Read what a check raised."""
    try:
        message = safe_text(str(error)) or None
    except BaseException:  # whatever its __str__ raises, SystemExit too, it is only words
        message = None
    return Outcome("down", "exception", class_name(error), message)


def timed_out(timeout_seconds: float) -> Outcome:
    """Return the outcome of a run that took longer than it may."""
    return Outcome("down", "timeout", message=f"no answer within {timeout_seconds:g} s")
