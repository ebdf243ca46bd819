"""Every way to spoil a JSON body: types, ranges, enumerations, missing keys and keys too many."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias, cast

from pydantic import TypeAdapter, ValidationError

__all__ = [
    "Json",
    "Object",
    "Place",
    "Schema",
    "accepted",
    "changed_at",
    "corruptions",
    "is_accepted",
]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Object: TypeAlias = "dict[str, Json]"


class Schema(Protocol):
    """A validator of the `jsonschema` package, whose own types are partial."""

    def validate(self, instance: object) -> None: ...
    def is_valid(self, instance: object) -> bool: ...


Place: TypeAlias = "tuple[str | int, ...]"


def _places(value: Json, at: Place = ()) -> Iterator[tuple[Place, Json]]:
    """Walk everything but what is inside of details, which are free."""
    yield at, value
    if isinstance(value, dict) and (not at or at[-1] != "details"):
        for key, part in value.items():
            yield from _places(part, (*at, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _places(part, (*at, index))


def changed_at(root: Json, place: Place, change: Callable[[Json], Json]) -> Json:
    """Return a copy of `root` with what is at `place` changed."""
    if not place:
        return change(root)
    changed = copy.copy(root)
    # Only a walk of `root` makes places, so its container has that key or index.
    container = cast("dict[str | int, Json]", changed)
    container[place[0]] = changed_at(container[place[0]], place[1:], change)
    return changed


def _wrong_types(value: Json) -> list[Json]:
    others: list[Json] = [{}, [], "x\n", 1.5, True, None, [None], {"a": None}]
    return [other for other in others if type(other) is not type(value)]


def _wrong_values(place: Place, value: Json) -> list[Json]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [-1, -0.5, -1e300, str(value)]
    if isinstance(value, str):
        upper = value.upper() if value.islower() else "?"
        wrong: list[Json] = ["", " ", "\n", "x" * 1_000, f"{value}\x00", f"{value}\u2028"]
        is_closed = place[-1] in {"state", "status", "kind"} or "probes" in place
        is_time = place[-1] in {"since", "checked_at", "timestamp", "last_seen"}
        if is_closed:
            wrong += [upper, f"{value} ", "unknown"]
        if is_time:
            wrong += [
                "today",
                value.replace("+00:00", "").rstrip("Z"),
                value.replace("T", " "),
                value[:10],
                "1767225600",
            ]
        # What was raised and said is any text, up to a limit.
        return ["x" * 1_000] if place[-1] in {"message", "exception_type"} else wrong
    return []


# Where null is a value too; that it does not fit the other fields is a contradiction.
_NULLABLE = {"exception_type", "message", "instance", "phase", "progress", "name", "version"}
_NULLABLE_IN = {"failure", "heartbeats", "service"}


def _may_be_null(place: Place) -> bool:
    if len(place) < 2:
        return False
    if place[-1] in {"latency_seconds", "checked_at"}:
        return True
    parent = place[-2] if isinstance(place[-2], str) else place[-3] if len(place) > 2 else ""
    return place[-1] in _NULLABLE and parent in _NULLABLE_IN


def corruptions(body: Json, maps: tuple[Place, ...] = ()) -> Iterator[tuple[str, Json]]:
    """Return every corruption of `body`; at `maps` are objects that take any name as a key."""
    for place, value in _places(body):
        shown = "/".join(map(str, place))
        for wrong in [*_wrong_types(value), *(_wrong_values(place, value) if place else [])]:
            if not _is_right(place, value, wrong, maps):
                yield f"{shown} = {wrong!r:.40}", changed_at(body, place, _constant(wrong))
        if isinstance(value, dict) and place not in maps and place[-1:] != ("details",):
            for key in value:
                yield f"{shown} without {key}", changed_at(body, place, _without(key))
            yield f"{shown} with a key more", changed_at(body, place, _with_a_key_more)


def _is_right(place: Place, value: Json, wrong: Json, maps: tuple[Place, ...]) -> bool:
    """Whether a value that was meant to be wrong is another right one at that place."""
    if wrong is None:
        return (place[:1] == ("heartbeats",) and len(place) == 2) or _may_be_null(place)
    if isinstance(wrong, dict):
        return place in maps or place[-1:] == ("details",)
    return (wrong == [] and isinstance(value, list)) or (value is None and _fits_null(place, wrong))


def _fits_null(place: Place, wrong: Json) -> bool:
    """Whether a field that happens to be null here would take that value by itself."""
    takes = {
        "latency_seconds": (1.5,),
        "age_seconds": (1.5,),
        "message": ("x\n",),
        "exception_type": ("x\n",),
    }
    return wrong in takes.get(str(place[-1]), ()) and not isinstance(wrong, bool)


def _constant(value: Json) -> Callable[[Json], Json]:
    return lambda _: value


def _without(key: str) -> Callable[[Json], Json]:
    return lambda value: {k: v for k, v in cast("Object", value).items() if k != key}


def _with_a_key_more(value: Json) -> Json:
    return {**cast("Object", value), "extra": None}


def is_accepted(adapter: TypeAdapter[object], value: Json) -> bool:
    try:
        adapter.validate_json(json.dumps(value))
    except ValidationError:
        return False
    return True


def accepted(
    schema: Schema, adapter: TypeAdapter[object], body: Json, maps: tuple[Place, ...] = ()
) -> list[str]:
    """Return the corruptions of `body` that the schema or the model lets through."""
    found: list[str] = []
    for what, corrupted in corruptions(body, maps):
        if schema.is_valid(corrupted):
            found.append(f"schema: {what}")
        if is_accepted(adapter, corrupted):
            found.append(f"model: {what}")
    return found
