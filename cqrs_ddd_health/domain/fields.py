"""What the models are made of: strict, frozen, closed, and read back from JSON only when whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .redaction import MAX_TEXT

__all__ = [
    "RFC_3339",
    "ClassName",
    "Count",
    "Seconds",
    "StrictModel",
    "Text",
    "UtcDatetime",
    "WireModel",
]

# What JSON readers everywhere hold exactly (RFC 8259, section 6).
MAX_COUNT = 2**53 - 1

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]

# RFC 3339, section 5.6, which is what the `date-time` of JSON Schema means: no numbers, no
# spaces, and the seconds and the offset are always there.
_DATE, _TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?"
RFC_3339 = f"^{_DATE}[Tt]{_TIME}([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})$"


class StrictModel(BaseModel, frozen=True):
    """What all models share: strict, frozen, closed, and every field required on the wire.

    Each subclass says `frozen=True` once more: type checkers take it from nowhere else.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )


M = TypeVar("M", bound="WireModel")


def _require_whole(model: M) -> M:
    missing = [name for name in type(model).model_fields if name not in model.model_fields_set]
    if missing:
        raise PydanticCustomError("missing", "Fields required: {names}", {"names": missing})
    return model


class WireModel(StrictModel, frozen=True):
    """A model that goes over the wire: defaults are for code, in JSON every key must be there."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        if schema["type"] == "json-or-python":
            return schema  # it was made before, and is now part of another model
        # The reference names the whole, or JSON Schemas would repeat the model wherever it is used.
        model = {key: value for key, value in schema.items() if key != "ref"}
        whole = core_schema.no_info_after_validator_function(
            _require_whole, cast("CoreSchema", model)
        )
        return core_schema.json_or_python_schema(
            json_schema=whole, python_schema=cast("CoreSchema", model), ref=schema.get("ref")
        )


class _Moment:
    """An aware `datetime` from code, and nothing but RFC 3339 from JSON; UTC in the end."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        text = core_schema.str_schema(strict=True, pattern=RFC_3339)
        read = core_schema.datetime_schema(strict=False, tz_constraint="aware")
        given = core_schema.datetime_schema(strict=True, tz_constraint="aware")
        return core_schema.no_info_after_validator_function(
            _utc,
            core_schema.json_or_python_schema(
                json_schema=core_schema.chain_schema([text, read]), python_schema=given
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time"}


UtcDatetime = Annotated[datetime, _Moment]


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time that UTC cannot say") from None
