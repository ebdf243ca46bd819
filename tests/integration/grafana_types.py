"""Holds JSON against the types that Grafana publishes of its own JSON (grafana-foundation-sdk)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Self, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins

register_default_plugins()


class Readable(Protocol):
    """A type of Grafana's: it drops what it does not know, and looks at no value."""

    @classmethod
    def from_json(cls, data: dict[str, Any], /) -> Self: ...


def unknown(kind: type[Readable], data: Mapping[str, Any]) -> list[str]:
    """Return the places in JSON that a type of Grafana's does not know."""
    written = json.loads(JSONEncoder().encode(kind.from_json(dict(data))))
    return list(_lost(json.loads(json.dumps(data)), written, ""))


def misfits(kind: type[Readable], data: Mapping[str, Any]) -> list[str]:
    """Return the places in JSON whose values are not what a type of Grafana's says."""
    return list(_misfits(kind.from_json(dict(data)), kind, kind.__name__))


def _lost(before: Any, after: Any, at: str) -> Iterator[str]:
    within, others = parts(before), parts(after)
    if within:
        for name, value in within.items():
            yield from _lost(value, others.get(name, KeyError), f"{at}/{name}")
    elif before != after:
        yield at


def parts(value: Any) -> dict[str, Any]:
    """Return what is in an object or an array of JSON, by name or index."""
    if _is(value, list):
        return {str(index): each for index, each in enumerate(value)}
    return value if _is(value, dict) else {}


def _misfits(value: Any, hint: Any, at: str) -> Iterator[str]:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in {Union, UnionType}:
        possible = [each for each in inner if (each is NoneType) == (value is None)]
        yield from min((list(_misfits(value, each, at)) for each in possible), key=len)
    elif kind in {list, dict} and _is(value, kind):
        for name, each in parts(value).items():
            yield from _misfits(each, inner[-1], f"{at}[{name}]")
    elif _reads(value):
        hints = get_type_hints(_type_of(value))
        for name, each in parts(value.__dict__).items():
            yield from _misfits(each, hints.get(name, object), f"{at}.{name}")
    elif _reads(hint) and _is(value, dict):
        yield from _misfits(hint.from_json(value), hint, at)
    elif not _is_plain(value, hint):
        yield f"{at}: {value!r} is no {hint}"


def _is(value: object, kind: Any) -> bool:
    return isinstance(value, kind)


def _type_of(value: object) -> Any:
    return type(value)


def _reads(kind: object) -> bool:
    return callable(getattr(kind, "from_json", None))


def _is_plain(value: Any, hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in [member.value for member in kind]
    if kind in {int, float}:
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)
