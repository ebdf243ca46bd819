"""Details of a check: any JSON object, frozen, and small and clean enough to be sent anywhere.

`Details` is what a row of the report holds; `json_safe` makes one out of whatever a check returned,
of which a `CheckResult` holds a `Given`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeAlias, cast

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from .redaction import class_name, safe_name, safe_text

__all__ = ["OMITTED", "DetailValue", "Details", "Given", "json_safe"]

DetailValue: TypeAlias = (
    "str | int | float | bool | Sequence[DetailValue] | Mapping[str, DetailValue] | None"
)
"""A JSON value; arrays are tuples and objects are `Details` once they are in a model."""

OMITTED = "omitted"
"""The key under which an object says how many of its entries were left out."""

MAX_DEPTH = 4
MAX_ENTRIES = 32
MAX_NODES = 256
# Integers beyond the safe range of IEEE 754 doubles lose digits in every JavaScript client.
_MAX_SAFE_INTEGER = 2**53 - 1
_BYTES = (bytes, bytearray)
# JSON parsers give up at some depth: pydantic's at 200, with the report around it.
_MAX_NESTING = 64


class Details(dict[str, DetailValue]):
    """A frozen, hashable JSON object.

    A `dict` so that `json.dumps` and `==` work as one expects; every way to change it raises
    `TypeError`. Built from anything that is not JSON (a NaN, a lone surrogate, a set, a key that
    is not a string, more than 64 levels) it raises `ValueError`.
    """

    __slots__ = ()

    def __init__(self, entries: Mapping[str, DetailValue] | None = None, /) -> None:
        super().__init__(_entries(entries or {}, 1))

    def __hash__(self) -> int:  # type: ignore[override]  # frozen, so unlike dict it can be hashed
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Details], tuple[dict[str, DetailValue]]]:
        return Details, (dict(self),)

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("details are read-only; return a new CheckResult instead")

    if not TYPE_CHECKING:  # a type checker keeps dict's own signatures
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse

    _JSON_SCHEMA: ClassVar[JsonSchemaValue] = {"type": "object", "additionalProperties": True}

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return dict(cls._JSON_SCHEMA)

    @classmethod
    def _validate(cls, value: object) -> Details:
        if type(value) is cls:  # a subclass may say one thing and compare as another
            return value
        return cls(cast("Mapping[str, DetailValue]", _require_mapping(value)))


def _entries(entries: Mapping[str, DetailValue], depth: int) -> dict[str, DetailValue]:
    return {_key(key): _frozen(value, depth) for key, value in entries.items()}


def _frozen(value: object, depth: int) -> DetailValue:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, int | float):
        return _finite(_plain_number(value))
    if depth >= _MAX_NESTING:
        raise ValueError(f"details must not be nested more than {_MAX_NESTING} levels deep")
    if isinstance(value, Mapping):
        frozen = Details()
        super(Details, frozen).update(_entries(cast("Mapping[str, DetailValue]", value), depth + 1))
        return frozen
    if isinstance(value, list | tuple):
        return tuple(_frozen(item, depth + 1) for item in cast("Sequence[object]", value))
    raise ValueError(f"details must be JSON, got an instance of {class_name(value)}")


def _plain_number(value: object) -> int | float:
    """Return a number without what a subclass makes of comparisons, `str()` and the like."""
    return float.__float__(value) if isinstance(value, float) else int.__int__(cast("int", value))


def _finite(value: float) -> float:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer that no double can hold, and few parsers will read
        finite = False
    if not finite:
        raise ValueError("details must hold finite numbers within the range of a double")
    return value


def _key(key: object) -> str:
    return _encodable(_text_key(key))


def _text_key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the keys of details must be strings, got {class_name(key)}")  # noqa: TRY004
    return str.__str__(key)


def _encodable(text: str) -> str:
    try:
        # By way of `str`: a subclass may say one thing and encode another.
        return str.encode(text).decode()
    except UnicodeEncodeError:
        raise ValueError("details must not hold lone surrogates") from None


class Given(dict[str, object]):
    """The entries of a mapping as they were given: the first 32, and how many more there were.

    They are copied, what is in them is not: that may be endless too.
    """

    __slots__ = ("left_out",)

    def __init__(self, entries: Mapping[str, object], left_out: int) -> None:
        super().__init__(entries)
        self.left_out: int = left_out

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "object", "additionalProperties": True}

    @classmethod
    def _validate(cls, value: object) -> Given:
        mapping = _require_mapping(value)
        try:
            first = list(islice(mapping.items(), MAX_ENTRIES))
            size = _size(mapping)
        except Exception as error:
            raise ValueError(f"details cannot be read: {class_name(error)}") from None
        entries = {_text_key(key): item for key, item in first}
        return cls(entries, max(size - len(entries), 0))


def _require_mapping(value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"details must be an object, got {class_name(value)}")  # noqa: TRY004 - pydantic's way
    return cast("Mapping[object, object]", value)


def _size(value: Mapping[object, object]) -> int:
    return len(value) + (value.left_out if isinstance(value, Given) else 0)


def json_safe(details: object) -> Details:
    """Return what is left of `details` as a frozen JSON object, whatever it was.

    Depth (4), entries of one object or array (32), entries in all (256) and the length of a text
    (500 characters) are bounded; what was left out is counted under the key `omitted`. NaN and the
    infinities become text, bytes and foreign objects their type's name. Never raises `Exception`.
    """
    try:
        if not details:
            return EMPTY
        cleaned = _Cleaner().clean(details, 0)
    except Exception as error:  # a hostile mapping may raise anything while it is read
        return Details({"unreadable": class_name(error)})
    return cleaned if isinstance(cleaned, Details) else Details({"value": cleaned})


EMPTY = Details()


class _Cleaner:
    """One pass over one value, with a budget of nodes that all its levels share."""

    def __init__(self) -> None:
        self._nodes_left = MAX_NODES

    def clean(self, value: object, depth: int) -> DetailValue:
        self._nodes_left -= 1
        if value is None or isinstance(value, bool | int | float | str):
            return _clean_scalar(value)
        if depth < MAX_DEPTH:
            if isinstance(value, Mapping):
                return self._object(cast("Mapping[object, object]", value), depth)
            if isinstance(value, Sequence | AbstractSet) and not isinstance(value, _BYTES):
                return self._array(cast("Sequence[object]", value), depth)
        return f"<{class_name(value)}>"

    def _object(self, value: Mapping[object, object], depth: int) -> Details:
        kept: dict[str, DetailValue] = {}
        for key, item in islice(value.items(), MAX_ENTRIES):
            if self._nodes_left <= 0:
                break
            name = key if isinstance(key, str) else f"<{class_name(key)}>"
            kept[safe_name(name)] = self.clean(item, depth + 1)
        left_out = _size(value) - len(kept)
        if left_out <= 0:
            return Details(kept)
        left_out = min(left_out + (OMITTED in kept), _MAX_SAFE_INTEGER)
        return Details({**kept, OMITTED: left_out})

    def _array(
        self, value: Sequence[object] | AbstractSet[object], depth: int
    ) -> tuple[DetailValue, ...]:
        kept: list[DetailValue] = []
        for item in islice(value, MAX_ENTRIES):
            if self._nodes_left <= 0:
                break
            kept.append(self.clean(item, depth + 1))
        left_out = len(value) - len(kept)
        return (*kept, f"{left_out} {OMITTED}") if left_out > 0 else tuple(kept)


def _clean_scalar(value: object) -> str | float | None:
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, bool) or value is None:
        return value
    number = _plain_number(value)
    if isinstance(number, int):
        return number if abs(number) <= _MAX_SAFE_INTEGER else _integer_text(number)
    return number if math.isfinite(number) else str(number)


def _integer_text(value: int) -> str:
    # CPython refuses to print integers of over 4,300 digits; their size is what tells anyway.
    bits = value.bit_length()
    return str(value) if bits < 1_000 else f"<int of {bits} bits>"
