"""The configuration of one check: the same from code and from the environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, cast, get_args

from pydantic import ConfigDict, Field, ValidationError
from pydantic_settings import NoDecode

from cqrs_ddd_health.errors import InvalidOptionError

from .fields import MAX_COUNT
from .models import Probe, StrictModel
from .names import Name, require_name

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "CheckOptions",
    "PositiveSeconds",
    "options_from_keywords",
    "require_bool",
    "require_count",
    "require_host",
    "require_instance",
    "require_port",
    "require_positive",
    "require_probe",
    "require_seconds",
    "require_several",
    "require_share",
]

DEFAULT_TIMEOUT_SECONDS = 5.0
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threshold = Annotated[int, Field(ge=1)]


class CheckOptions(StrictModel, frozen=True):
    """How one check is asked and what its verdict means. All durations are seconds.

    Options come in layers, and the more specific wins: `CQRS_HEALTH_CHECKS__<NAME>__<OPTION>`,
    a keyword of `register`, the object given as `options=`, a `timeout_seconds` attribute of the
    check, `CQRS_HEALTH_CHECK_TIMEOUT_SECONDS`, the default. Only what was set takes part.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(title="CheckOptions")

    timeout_seconds: PositiveSeconds = Field(
        default=DEFAULT_TIMEOUT_SECONDS,
        description="How long one run may take: a positive, finite number of seconds.",
    )
    critical: bool = Field(
        default=True,
        description="True if its being down makes the report unhealthy, false for degraded.",
    )
    # NoDecode: in the environment a list is `a, b`, not JSON.
    probes: Annotated[tuple[Probe, ...], NoDecode] = Field(
        default=("ready",),
        description="The probes that it gates while it is critical: live, ready, startup.",
    )
    tags: Annotated[tuple[Name, ...], NoDecode] = Field(
        default=(), description="Names to select checks by."
    )
    interval_seconds: PositiveSeconds = Field(
        default=10.0,
        description=(
            "The time between two runs of the background refresh, in seconds, give or take 10 %. "
            "Also how long, with these 10 % and on top of the timeout, an outcome stands in for a "
            "run that has not ended by an asker's deadline."
        ),
    )
    down_interval_seconds: PositiveSeconds = Field(
        default=30.0, description="The same while it is down: a positive, finite number of seconds."
    )
    initial_delay_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description=(
            "How long after the start of the background refresh its first run begins, in seconds; "
            "anywhere within the interval if not said, so that a fleet does not ask as one."
        ),
    )
    failure_threshold: Threshold = Field(
        default=1, description="Failed runs in a row that take it down; degraded until then."
    )
    success_threshold: Threshold = Field(
        default=1, description="Successful runs in a row that bring it back from down."
    )
    blocking: bool = Field(
        default=True,
        description="Whether a sync callable may block: false runs it on the event loop.",
    )
    enabled: bool = Field(default=True, description="False leaves it out of every report.")

    def overlaid(self, *layers: CheckOptions | None) -> CheckOptions:
        """Return these options with what each layer has set laid over them, the last one on top."""
        values: dict[str, object] = {}
        for layer in (self, *layers):
            if layer is not None:
                said = layer.model_fields_set & CheckOptions.model_fields.keys()
                values |= {name: getattr(layer, name) for name in said}
        return CheckOptions.model_validate(values)


def options_from_keywords(name: str, keywords: Mapping[str, object]) -> CheckOptions:
    """Return the options that `register(name, ..., **keywords)` asks for; `None` means not said.

    Raises:
        InvalidNameError: if a tag cannot be shown safely.
        InvalidOptionError: if one has the wrong type or is out of its range.
    """
    said = {key: _listed(value) for key, value in keywords.items() if value is not None}
    tags = said.get("tags")
    for tag in cast("tuple[object, ...]", tags) if isinstance(tags, tuple) else ():
        require_name(tag, f"tag of check {name!r}")
    try:
        return CheckOptions.model_validate(said)
    except ValidationError as error:
        raise InvalidOptionError(f"check {name!r}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """Say for each field what it was given and what it should be."""
    errors = error.errors(include_url=False)
    return "; ".join(
        f"{item['loc'][0]}: {item['msg']}, got {_short(item['input'])}" for item in errors
    )


def _listed(value: object) -> object:
    """Any iterable of names will do for a tuple of them; a lone string is a mistake to be shown."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return tuple(cast("Iterable[object]", value))


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, or whatever a foreign class does
        text = f"an instance of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


_PROBES: tuple[Probe, ...] = get_args(Probe)
_LONGEST = sys.float_info.max  # an integer beyond has no end either, as a float


def require_probe(probe: object) -> Probe:
    """Return `probe` if there is such a one, or raise `InvalidOptionError`."""
    for known in _PROBES:
        if probe == known:
            return known
    raise InvalidOptionError(f"a probe is one of {', '.join(_PROBES)}, got {_short(probe)}")


def require_seconds(name: str, value: object) -> float:
    """Return `value` if it is a finite, non-negative number, or raise `InvalidOptionError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise InvalidOptionError(
            f"{name} must be a finite number of seconds that is not negative, got {_short(value)}"
        )
    return float(value)


def require_positive(name: str, value: object) -> float:
    """Return `value` if it is a positive, finite number, or raise `InvalidOptionError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST:
        raise InvalidOptionError(f"{name} must be a positive, finite number, got {_short(value)}")
    return float(value)


def require_count(name: str, value: object, least: int) -> int:
    """Return `value` if it is a whole number from `least` on, or raise `InvalidOptionError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
        raise InvalidOptionError(
            f"{name} must be a whole number from {least} to {MAX_COUNT}, got {_short(value)}"
        )
    return int.__int__(value)


def require_host(name: str, value: object) -> str:
    """Return a host's name in ASCII, or its address, or raise `InvalidOptionError`.

    The error does not repeat it: of a mangled URL it may be a piece of the password.
    """
    try:
        if isinstance(value, str) and re.fullmatch(r"[^\s\x00-\x1f\x7f]+", value):
            return value.encode("idna").decode("ascii")
    except UnicodeError:  # a label that is empty, too long or not for host names
        pass
    raise InvalidOptionError(f"{name} must be a host name or an IP address")


def require_port(name: str, value: object, *, least: int = 1) -> int:
    """Return `value` if it is a port, from `least` on, or raise `InvalidOptionError`.

    Port 0 is one that can be listened on, the system picks another; nobody can connect to it.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 65_535:
        raise InvalidOptionError(f"{name} must be from {least} to 65535, got {_short(value)}")
    return value


def require_share(name: str, value: object) -> float:
    """Return `value` if it is more than 0 and at most 1, or raise `InvalidOptionError`."""
    share = require_positive(name, value)
    if share > 1:
        raise InvalidOptionError(f"{name} must be more than 0 and at most 1, got {_short(value)}")
    return share


def require_bool(name: str, value: object) -> bool:
    """Return `value` if it is true or false, or raise `InvalidOptionError`."""
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{name} must be True or False, got {_short(value)}")
    return value


def require_instance(name: str, value: object, kind: type) -> None:
    """Raise `InvalidOptionError` unless `value` is `None` or a `kind`."""
    if value is not None and not isinstance(value, kind):
        raise InvalidOptionError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def require_several(name: str, value: object) -> tuple[object, ...]:
    """Return the items of an iterable that is no lone string, or raise `InvalidOptionError`."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidOptionError(f"{name} must be several names, got {_short(value)}")
    return tuple(cast("Iterable[object]", value))
