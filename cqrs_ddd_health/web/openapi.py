"""The paths that are answered over HTTP, and with what: OpenAPI 3.1.

`cqrs-health export schemas` writes it to `schemas/openapi.json`; a FastAPI application makes its
own of the same `OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from pydantic import TypeAdapter
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue

from cqrs_ddd_health.domain.models import ComponentStatus, HealthReport
from cqrs_ddd_health.domain.wire import ErrorDict, HealthJsonDict, LiveDict, ReadyDict, StatusDict

__all__ = [
    "DESCRIPTIONS",
    "OPERATIONS",
    "Body",
    "Operation",
    "error_content",
    "openapi",
    "other_content",
]

Body: TypeAlias = "type[HealthReport | ComponentStatus | Mapping[str, object]]"
"""A model or a typed dictionary: what a JSON body is."""

_COMPONENT: JsonDict = {
    "name": "component",
    "in": "path",
    "required": True,
    "description": "The name, percent-encoded but for letters, digits and -._~",
    "schema": {"type": "string", "minLength": 1},
}
_TAG: JsonDict = {
    "name": "tag",
    "in": "query",
    "description": "Only checks that have one of these tags.",
    "schema": {"type": "array", "items": {"type": "string"}},
}


class Operation(NamedTuple):
    """A path below the prefix, to be asked with GET or HEAD."""

    route: str
    name: str
    summary: str
    description: str
    bodies: Mapping[int, Body]
    """What there is in JSON, by the code of the answer."""
    parameters: Sequence[JsonDict] = ()
    other_content: Sequence[str] = ()
    """The other media types in which an answer can be had."""


def _both(body: object, *, errors: bool = False) -> Mapping[int, Body]:
    known = cast("Body", body)
    return {200: known, 503: known, **({404: _ERROR} if errors else {})}


_ERROR = cast("Body", ErrorDict)
_HEALTH_JSON = "application/health+json"
OPERATIONS = (
    Operation("", "status", "Is everything up?", "503 if it is not.", _both(StatusDict)),
    Operation(
        "/live",
        "live",
        "Does the process live?",
        "503 only if something that gates live says that it does not.",
        _both(LiveDict),
    ),
    Operation(
        "/ready",
        "ready",
        "May it get traffic?",
        "Lists what gates that. 503 if some of it is down, or the process is leaving.",
        _both(ReadyDict),
    ),
    Operation(
        "/startup",
        "startup",
        "Has it started?",
        "Lists what gates that. Once it was 200 it stays so.",
        _both(ReadyDict),
    ),
    Operation(
        "/report",
        "report",
        "What exactly?",
        "503 only if it is unhealthy, 404 if there is no such tag.",
        _both(HealthReport, errors=True),
        (_TAG,),
        (_HEALTH_JSON,),
    ),
    Operation(
        "/report/{component}",
        "component",
        "What exactly, of one component?",
        "503 if it is down, 404 if there is no such component.",
        _both(ComponentStatus, errors=True),
        (_COMPONENT,),
    ),
    Operation(
        "/page",
        "page",
        "The report as a page for people",
        "404 if there is no such tag.",
        {404: _ERROR},
        (_TAG,),
        ("text/html",),
    ),
)
DESCRIPTIONS = {200: "Yes, or well enough.", 404: "There is no such thing.", 503: "No."}


def openapi(prefix: str = "/health") -> JsonSchemaValue:
    """Return the OpenAPI document of a `health_app` with that prefix."""
    schemas, definitions = _schemas()
    prefix = prefix.rstrip("/")
    paths: dict[str, object] = {
        f"{prefix}{operation.route}" or "/": {"get": _described(operation, schemas)}
        for operation in OPERATIONS
    }
    info = {
        "title": "Health",
        "version": "1",
        "description": "Is it healthy, and if not, what broke.",
    }
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": definitions},
    }


def other_content(operation: Operation) -> dict[str, JsonDict]:
    """Return what the answers with 200 and 503 of an operation can be besides JSON."""
    content: Mapping[str, JsonDict] = {
        _HEALTH_JSON: {"schema": _whole_schema(TypeAdapter(HealthJsonDict))},
        "text/html": {"schema": {"type": "string"}},
    }
    return {media_type: content[media_type] for media_type in operation.other_content}


def error_content() -> dict[str, JsonDict]:
    """Return what an answer with 404 is, in one piece."""
    return {"application/json": {"schema": _whole_schema(TypeAdapter(ErrorDict))}}


def _described(operation: Operation, schemas: Mapping[object, JsonSchemaValue]) -> object:
    codes = sorted({200, *operation.bodies})
    return {
        "operationId": f"health_{operation.name}",
        "summary": operation.summary,
        "description": operation.description,
        "parameters": list(operation.parameters),
        "responses": {
            str(code): {
                "description": DESCRIPTIONS[code],
                "content": dict(_content(operation, code, schemas)),
            }
            for code in codes
        },
    }


def _content(
    operation: Operation, code: int, schemas: Mapping[object, JsonSchemaValue]
) -> Iterator[tuple[str, object]]:
    if code in operation.bodies:
        yield "application/json", {"schema": schemas[operation.bodies[code]]}
    if code != 404:
        yield from other_content(operation).items()


_MODE: JsonSchemaMode = "serialization"


def _schemas() -> tuple[Mapping[object, JsonSchemaValue], JsonSchemaValue]:
    """Return the schema of each body, and what these refer to."""
    bodies = {body for operation in OPERATIONS for body in operation.bodies.values()}
    adapters: list[tuple[Body, JsonSchemaMode, TypeAdapter[Any]]] = [
        (body, _MODE, TypeAdapter(body)) for body in sorted(bodies, key=lambda body: body.__name__)
    ]
    found, rest = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    return {body: found[body, _MODE] for body, _, _ in adapters}, rest["$defs"]


def _whole_schema(body: TypeAdapter[Any]) -> JsonValue:
    """Return the schema in one piece: in the document of an application it refers to nothing."""
    schema = body.json_schema(mode=_MODE)
    definitions = schema.pop("$defs", {})

    def whole(part: JsonValue) -> JsonValue:
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str):
                return whole(definitions[reference.removeprefix("#/$defs/")])
            return {key: whole(value) for key, value in part.items()}
        return [whole(item) for item in part] if isinstance(part, list) else part

    return whole(schema)
