"""Reads what a check did into an `Outcome`: bounded, safe to show, with no exception kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

from .details import json_safe
from .evaluation import SUCCESS, Outcome
from .models import CheckResult
from .texts import safe_name, safe_text

__all__ = ["HANGING", "NESTED", "outcome_of", "outcome_of_error", "timed_out"]

NESTED = Outcome("down", "falsy", message="it returned an awaitable of an awaitable, and so on")
HANGING = Outcome("down", "hung", message="it was cut off and has not ended yet")


def outcome_of(value: object) -> Outcome:
    """Read what a check returned: a `CheckResult`, or anything truthy or falsy."""
    if isinstance(value, Generator | AsyncGenerator):
        return Outcome("down", "falsy", message="it returned a generator, and was never run")
    if not isinstance(value, CheckResult):
        return SUCCESS if value else Outcome("down", "falsy", message=f"it returned {_type(value)}")
    if value.state == "up":
        return Outcome("up", details=json_safe(value.details))
    message = None if value.message is None else safe_text(value.message)
    return Outcome(value.state, "reported", None, message, json_safe(value.details))


def outcome_of_error(error: BaseException) -> Outcome:
    """Read what a check raised."""
    try:
        message = safe_text(str(error)) or None
    except BaseException:  # whatever its __str__ raises, SystemExit too, it is only words
        message = None
    return Outcome("down", "exception", _type(error), message)


def timed_out(timeout_seconds: float) -> Outcome:
    """Return the outcome of a run that took longer than it may."""
    return Outcome("down", "timeout", message=f"no answer within {timeout_seconds:g} s")


def _type(value: object) -> str:
    # Read past the metaclass: what its author made of `__name__` may raise.
    name: object = vars(type)["__name__"].__get__(type(value))
    return safe_name(str(name)) or "unnamed"
