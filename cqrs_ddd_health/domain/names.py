"""What may be the name of a check, a worker or an instance, and how names meet the environment."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from cqrs_ddd_health.errors import InvalidNameError

__all__ = ["MAX_NAME_LENGTH", "Name", "fold", "made_safe", "problem_of", "require_name"]

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

# What has no shape of its own: soft hyphen, zero width, joiners, and to ECMAScript, so to many a
# JSON Schema, the byte order mark is a blank. Among others they are legal, as in many an emoji.
_VISIBLE = "[^\\s\\u00ad\\u180e\\u200b-\\u200f\\u2060-\\u206f\\ufeff]"
_VISIBLE_RE = re.compile(_VISIBLE)


def require_name(name: object, what: str) -> str:
    """Return `name`, as plain text, if it may name a `what` ("check", "worker", ...).

    Raises:
        InvalidNameError: if it is not a string, empty, blank or invisible, longer than 128
            characters, or has control, line-breaking or bidirectional formatting characters in it.
    """
    if not isinstance(name, str):
        raise InvalidNameError(f"the name of a {what} must be a string, got {_shown(name)}")
    # It is kept and compared for ever: what a subclass makes of that is not to run in reports.
    plain = str.__str__(name)
    problem = problem_of(plain)
    if problem is not None:
        raise InvalidNameError(f"the name of a {what} {problem}, got {_shown(plain)}")
    return plain


def fold(name: str) -> str:
    """Return the name as the environment spells it: lower case, all that is no letter or digit `_`.

    Runs of such characters are one `_` and none at the ends: two in a row separate the parts of a
    variable. A name of nothing else stays as it is, and cannot be spelled.

    >>> fold("Orders-DB (primary)")
    'orders_db_primary'
    """
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_") or name


def problem_of(name: str) -> str | None:
    """Return what a name must or must not do and does not keep to, or `None` if it may be one."""
    # What can be printed has none of those characters, and that is quickly told.
    if name.isprintable() and 0 < len(name) <= MAX_NAME_LENGTH and not name.isspace():
        return None
    if not _VISIBLE_RE.search(name):
        return "must not be empty or blank"
    if len(name) > MAX_NAME_LENGTH:
        return f"must have at most {MAX_NAME_LENGTH} characters, not {len(name)}"
    if _UNSAFE_RE.search(name):
        return "must not have control, line-breaking or bidirectional formatting characters"
    return None


def made_safe(text: str) -> str:
    """Return `text` with a `?` for each character that no name may have: a host's is not ours."""
    return _UNSAFE_RE.sub("?", text)


def _shown(value: object) -> str:
    """A bounded `repr` with everything unprintable escaped: the error itself must stay readable."""
    text = ascii(value) if isinstance(value, str) else f"an instance of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _validated(name: str) -> str:
    problem = problem_of(name)
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
            "pattern": _VISIBLE,
            "not": {"pattern": f"[{_UNSAFE}]"},
        }
    ),
]
"""A name inside a model: the same rule as `require_name`, refused with a `ValidationError`."""
