"""Whatever a check tells of itself ends as small, clean, frozen JSON."""

from __future__ import annotations

import copy
import json
import math
import pickle
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health.domain.details import OMITTED, Details, DetailValue, json_safe
from cqrs_ddd_health.domain.redaction import safe_text

from .strategies import details

MOST_BYTES = 640 * 1024
"""256 entries, each a key of 100 and a text of 500 characters of at most 4 bytes, and syntax."""

ANYTHING: st.SearchStrategy[object] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(0, 20_000).map(lambda digits: 10**digits),
        st.floats(),
        st.text(),
        st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"])),
        st.binary(),
        st.complex_numbers(),
        st.datetimes(),
        st.sets(st.integers()),
        st.just(object()),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.binary()), inner),
    ),
    max_leaves=60,
)


def encoded(value: Details) -> bytes:
    """Return it as strict JSON: no NaN, no lone surrogate."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def levels(count: int) -> object:
    value: object = {}
    for _ in range(count):
        value = {"in": value}
    return value


@given(ANYTHING)
def test_anything_becomes_bounded_strict_json(value: object) -> None:
    safe = json_safe(value)
    assert len(encoded(safe)) <= MOST_BYTES
    assert Details(json.loads(encoded(safe))) == safe
    assert hash(safe) == hash(Details(safe))


class Hostile(Mapping[str, object]):
    """A mapping whose every method raises."""

    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class Shy(Hostile):
    """Raises only when its entries are read."""

    def __len__(self) -> int:
        return 1


class Liar(str):
    """A text that lies about its length and about what it is."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __str__(self) -> str:
        return "\ud800"


class Endless(Mapping[str, object]):
    """A mapping that never comes to its end."""

    def __getitem__(self, key: str) -> object:
        return self

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)

    def __len__(self) -> int:
        return 2**40


def _cyclic() -> object:
    value: list[object] = []
    value.append(value)
    return {"me": value}


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"text": "x" * 50_000_000},
        lambda: {"x" * 50_000_000: "key"},
        lambda: {"bytes": b"x" * 50_000_000},
        lambda: {str(number): "x" * 1_000 for number in range(10_000)},
        lambda: {"list": ["🩺" * 1_000] * 10_000},
        lambda: [[["🩺" * 1_000] * 100] * 100] * 100,
        lambda: {
            "🩺" * 50 + str(a): {"🩺" * 50 + str(b): "🩺" * 999 for b in range(99)}
            for a in range(99)
        },
        lambda: levels(100_000),
        lambda: range(10**30),
        lambda: {"set": set(range(1_000))},
        lambda: {"number": 10**100_000},
        lambda: {"number": -(10**100_000)},
        lambda: {10**100_000: "key"},
        lambda: {"text": Liar("x" * 5_000)},
        _cyclic,
        Hostile,
        Shy,
        Endless,
        type("N" * 1_000_000, (), {}),
    ],
)
def test_hostile_details_are_bounded(make: Callable[[], object]) -> None:
    assert len(encoded(json_safe(make()))) <= MOST_BYTES


def test_a_huge_text_is_not_copied() -> None:
    text = "x" * 50_000_000
    tracemalloc.start()
    try:
        json_safe({"text": text})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_details_that_cannot_be_read_say_so() -> None:
    assert json_safe(Hostile()) == {"unreadable": "RuntimeError"}
    assert json_safe({"inner": Shy()}) == {"unreadable": "RuntimeError"}


def test_an_endless_name_of_an_error_is_cut() -> None:
    error = cast("type[Exception]", type("E" * 10_000, (Exception,), {}))

    class Raising(Hostile):
        def __len__(self) -> int:
            raise error

    assert len(str(json_safe(Raising())["unreadable"])) == 100


@pytest.mark.parametrize("nothing", [None, {}, [], "", 0, False])
def test_nothing_is_no_details(nothing: object) -> None:
    assert json_safe(nothing) == {}


def test_what_is_no_object_is_put_into_one() -> None:
    assert json_safe("fine") == {"value": "fine"}
    assert json_safe([1, 2]) == {"value": (1, 2)}
    assert json_safe(b"secret") == {"value": "<bytes>"}


def test_clean_json_is_kept_as_it_is() -> None:
    clean = {"a": None, "b": True, "c": 1, "d": 1.5, "e": "é🩺", "f": [1, {"g": "h"}]}
    assert json.loads(encoded(json_safe(clean))) == clean


def test_what_is_left_out_is_counted() -> None:
    assert json_safe({str(number): number for number in range(40)})[OMITTED] == 8
    assert json_safe({"list": list(range(40))})["list"] == (*range(32), "8 omitted")
    assert OMITTED not in json_safe({str(number): number for number in range(32)})


def test_an_entry_that_is_called_omitted_is_counted_when_it_makes_room_for_the_count() -> None:
    entries = {OMITTED: "mine"} | {str(number): number for number in range(39)}
    assert json_safe(entries)[OMITTED] == 9


def test_two_keys_that_are_cut_alike_are_counted() -> None:
    assert json_safe({"k" * 100 + end: 1 for end in "abc"})[OMITTED] == 2


def test_the_budget_of_entries_is_shared_by_all_levels() -> None:
    wide = {str(a): {str(b): b for b in range(32)} for a in range(32)}
    safe = json_safe(wide)
    inner = [cast("Mapping[str, DetailValue]", safe[name]) for name in safe if name != OMITTED]
    kept = len(inner) + sum(name != OMITTED for entries in inner for name in entries)
    assert kept <= 255
    assert safe[OMITTED] == 32 - len(inner)
    left_out = cast("int", inner[-1][OMITTED])
    assert left_out + len(inner[-1]) - 1 == 32


def test_a_list_counts_what_the_budget_left_out() -> None:
    safe = json_safe([list(range(32))] * 32)["value"]
    assert isinstance(safe, tuple)
    assert safe[-1] == f"{32 - (len(safe) - 1)} omitted"


def test_what_is_nested_too_deeply_shows_its_type() -> None:
    assert json_safe(levels(5)) == {"in": {"in": {"in": {"in": "<dict>"}}}}


def test_what_json_cannot_say_becomes_text() -> None:
    assert json_safe(
        {
            "nan": math.nan,
            "inf": -math.inf,
            "surrogate": "a\ud800b",
            "big": 2**53,
            "vast": 10**1_000,
            "object": object(),
            3: "number",
        }
    ) == {
        "nan": "nan",
        "inf": "-inf",
        "surrogate": "a?b",
        "big": "9007199254740992",
        "vast": "<int of 3322 bits>",
        "object": "<object>",
        "<int>": "number",
    }


_Change: TypeAlias = "Callable[[dict[str, DetailValue]], object]"
CHANGES: list[_Change] = [
    lambda frozen: frozen.__setitem__("a", 2),
    lambda frozen: frozen.__delitem__("a"),
    lambda frozen: frozen.__ior__({"b": 1}),
    lambda frozen: frozen.clear(),
    lambda frozen: frozen.pop("a"),
    lambda frozen: frozen.popitem(),
    lambda frozen: frozen.setdefault("b", 1),
    lambda frozen: frozen.update({"b": 1}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_details_are_read_only(change: _Change) -> None:
    frozen = Details({"a": 1})
    with pytest.raises(TypeError, match="read-only"):
        change(frozen)
    assert frozen == {"a": 1}


def test_what_is_inside_details_is_read_only_too() -> None:
    frozen = Details({"object": {"a": [1, {"b": 2}]}})
    inner = frozen["object"]
    assert isinstance(inner, Details)
    assert inner["a"] == (1, Details({"b": 2}))


def test_a_change_of_what_they_were_made_of_changes_nothing() -> None:
    inner: list[DetailValue] = [1]
    frozen = Details({"list": inner})
    inner.append(2)
    assert frozen == {"list": (1,)}


@given(details)
def test_details_are_hashable_picklable_and_copyable(frozen: Details) -> None:
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen)), Details(frozen)):
        assert type(other) is Details
        assert other == frozen
        assert hash(other) == hash(frozen)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (10**400, "finite"),
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        ({1: 1}, "keys of details must be strings"),
        (..., "must be JSON, got an instance of ellipsis"),
        ({1}, "must be JSON, got an instance of set"),
        (b"x", "must be JSON, got an instance of bytes"),
        (levels(64), "64 levels"),
        (_cyclic(), "64 levels"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_details_hold_nothing_but_json(value: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Details({"value": cast("DetailValue", value)})


def test_a_subclass_of_text_becomes_plain_text() -> None:
    text = Details({"value": Liar("x")})["value"]
    assert type(text) is str
    assert text == "x"


def test_no_entries_are_none() -> None:
    assert Details() == Details(None) == {}


SECRET = "redis://user:" + "s3cret" * 30 + "@cache:6379/0"


@pytest.mark.parametrize("before", [0, 400, 495, 3_900, 3_990])
def test_what_is_cut_in_the_middle_of_a_secret_shows_nothing_of_it(before: int) -> None:
    for text in ("x" * before + SECRET, "x " * (before // 2) + SECRET + " and more" * 500):
        for shown in (safe_text(text), str(json_safe({"url": text, text: 1}))):
            assert "s3cret" not in shown
            assert "user" not in shown
