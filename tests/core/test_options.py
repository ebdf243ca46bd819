"""Options: the same from code and environment, laid over one another, refused when bad."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cqrs_ddd_health import (
    CheckOptions,
    HealthRegistry,
    HealthSettings,
    InvalidNameError,
    InvalidOptionError,
)
from cqrs_ddd_health.domain.options import (
    options_from_keywords,
    require_count,
    require_positive,
    require_probe,
    require_seconds,
)

BAD_SECONDS: list[object] = [
    True,
    "5",
    -1,
    -0.001,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    10**5_000,
    None,
    [],
    1j,
]


def _kind(value: object) -> str:
    return type(value).__name__


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [0, 0.0, 1, 1.5, 1e308])
def test_seconds_are_any_finite_number_that_is_not_negative(value: float) -> None:
    assert require_seconds("grace_seconds", value) == value
    assert type(require_seconds("grace_seconds", value)) is float


@pytest.mark.parametrize("value", [*BAD_SECONDS, Unprintable()], ids=_kind)
def test_bad_seconds_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOptionError, match="grace_seconds must be a finite number") as caught:
        require_seconds("grace_seconds", value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [*BAD_SECONDS, 0, 0.0, Unprintable()], ids=_kind)
def test_what_is_not_positive_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOptionError, match="min_free_bytes must be a positive, finite numb"):
        require_positive("min_free_bytes", value)
    assert require_positive("min_free_bytes", 1) == 1.0


@pytest.mark.parametrize("value", [True, 0, -1, 1.0, "1", None, 2**53, Unprintable()])
def test_a_bad_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOptionError, match="min_instances must be a whole number from 1 to"):
        require_count("min_instances", value, 1)
    assert require_count("min_instances", 1, 1) == 1


def test_a_probe_is_one_of_three() -> None:
    assert [require_probe(probe) for probe in ("live", "ready", "startup")]
    unknowns: list[object] = ["Ready", "", None, {}]
    for unknown in unknowns:
        with pytest.raises(InvalidOptionError, match="one of live, ready, startup"):
            require_probe(unknown)


@pytest.mark.parametrize("value", [*BAD_SECONDS, 0, 0.0, Unprintable()], ids=_kind)
def test_a_bad_timeout_is_refused_with_the_check_and_the_option(value: object) -> None:
    if value is None:
        return  # not said
    with pytest.raises(InvalidOptionError, match="check 'db': timeout_seconds: ") as caught:
        options_from_keywords("db", {"timeout_seconds": value})
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "keywords",
    [
        {"critical": "yes"},
        {"probes": "ready"},
        {"probes": ("health",)},
        {"tags": "search"},
        {"tags": 1},
    ],
    ids=repr,
)
def test_a_bad_keyword_is_refused_by_name(keywords: dict[str, object]) -> None:
    with pytest.raises(InvalidOptionError, match=f"check 'db': {next(iter(keywords))}: .*, got "):
        options_from_keywords("db", keywords)


@pytest.mark.parametrize("tag", ["", " ", "a\nb", "x" * 129, 1, None])
def test_a_tag_is_a_name(tag: object) -> None:
    with pytest.raises(InvalidNameError, match="tag of check 'db'"):
        options_from_keywords("db", {"tags": [tag]})


@pytest.mark.parametrize("make", [tuple, list, set, frozenset, iter, dict.fromkeys])
def test_any_iterable_of_names_will_do(make: Callable[[list[str]], object]) -> None:
    said = options_from_keywords("db", {"tags": make(["search"]), "probes": make(["live"])})
    assert (said.tags, said.probes) == (("search",), ("live",))


def test_what_is_none_was_not_said() -> None:
    assert not options_from_keywords("db", {"timeout_seconds": None}).model_fields_set


@pytest.mark.parametrize(
    "bad",
    [
        {"timeout_seconds": 0},
        {"interval_seconds": 0},
        {"interval_seconds": math.inf},
        {"failure_threshold": 0},
        {"success_threshold": 0},
        {"failure_threshold": 1.5},
        {"blocking": 1},
        {"enabled": "no"},
        {"timout_seconds": 1},
    ],
    ids=repr,
)
def test_options_are_strict_and_closed(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CheckOptions.model_validate(bad)


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(CheckOptions(), "critical", False)  # noqa: B010 - a type checker refuses it plainly


_LAYER: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "timeout_seconds": st.floats(0.1, 10),
        "critical": st.booleans(),
        "failure_threshold": st.integers(1, 9),
        "enabled": st.booleans(),
    },
)


@given(st.lists(_LAYER | st.none(), max_size=4))
def test_the_last_layer_that_says_something_wins(layers: list[dict[str, object] | None]) -> None:
    base = CheckOptions()
    laid = base.overlaid(
        *(CheckOptions.model_validate(x) if x is not None else None for x in layers)
    )
    said: dict[str, object] = {}
    for layer in layers:
        said |= layer or {}
    assert laid == CheckOptions.model_validate(said)
    assert laid.model_fields_set == set(said)


def test_the_defaults_are_those_of_the_contract() -> None:
    promised: dict[str, object] = {
        "timeout_seconds": 5.0,
        "critical": True,
        "probes": ("ready",),
        "tags": (),
        "interval_seconds": 10.0,
        "failure_threshold": 1,
        "success_threshold": 1,
        "blocking": True,
        "enabled": True,
    }
    assert promised.items() <= CheckOptions().model_dump().items()


def test_the_registry_refuses_bad_options_and_registers_nothing() -> None:
    registry = HealthRegistry(settings=HealthSettings())
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(InvalidOptionError, match="timeout_seconds"):
            registry.register("db", lambda: True, timeout_seconds=bad)
    assert registry.names == ()
