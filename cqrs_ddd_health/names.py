"""What may be the name of a check, a worker or an instance, and how names meet the environment."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from .errors import InvalidNameError

__all__ = ["MAX_NAME_LENGTH", "Name", "fold", "require_name"]

MAX_NAME_LENGTH = 128
"""In characters: Prometheus, SQL keys and log lines all bear this much."""

# Control characters, line and paragraph separators and lone surrogates break lines and encoders;
# bidi controls (Unicode TR 9, section 2) make a row read as something that it is not.
_UNSAFE = (
    "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029"
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
)
# Not in the JSON Schema: many a validator cannot read a pattern that names surrogates.
_UNSAFE_RE = re.compile(f"[{_UNSAFE}\\ud800-\\udfff]")


def require_name(name: object, what: str) -> str:
    """Return `name` if it may name a `what` ("check", "worker", ...).

    Raises:
        InvalidNameError: if it is not a string, empty or blank, longer than 128 characters,
            or has control, line-breaking or bidirectional formatting characters in it.
    """
    if not isinstance(name, str):
        raise InvalidNameError(f"the name of a {what} must be a string, got {_shown(name)}")
    problem = _problem(name)
    if problem is not None:
        raise InvalidNameError(f"the name of a {what} {problem}, got {_shown(name)}")
    return name


def fold(name: str) -> str:
    """Return the name as the environment spells it: lower case, all that is no letter or digit `_`.

    Runs of such characters are one `_` and none at the ends: two in a row separate the parts of a
    variable. A name of nothing else stays as it is, and cannot be spelled.

    >>> fold("Orders-DB (primary)")
    'orders_db_primary'
    """
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_") or name


def _problem(name: str) -> str | None:
    # What can be printed has none of those characters, and that is quickly told.
    if name.isprintable() and 0 < len(name) <= MAX_NAME_LENGTH and not name.isspace():
        return None
    # To ECMAScript, and so to many a JSON Schema, the byte order mark is blank too.
    if not name.replace("\ufeff", " ").strip():
        return "must not be empty or blank"
    if len(name) > MAX_NAME_LENGTH:
        return f"must have at most {MAX_NAME_LENGTH} characters, not {len(name)}"
    if _UNSAFE_RE.search(name):
        return "must not have control, line-breaking or bidirectional formatting characters"
    return None


def _shown(value: object) -> str:
    """A bounded `repr` with everything unprintable escaped: the error itself must stay readable."""
    text = ascii(value) if isinstance(value, str) else f"an instance of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _validated(name: str) -> str:
    problem = _problem(name)
    if problem is not None:
        raise ValueError(f"a name {problem}")
    return name


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_LENGTH),
    AfterValidator(_validated),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_LENGTH,
            "pattern": "\\S",
            "not": {"pattern": f"[{_UNSAFE}]"},
        }
    ),
]
"""A name inside a model: the same rule as `require_name`, refused with a `ValidationError`."""
