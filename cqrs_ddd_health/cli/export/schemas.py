"""The JSON Schemas of everything that goes over the wire or comes in from the environment.

`cqrs-health export schemas` writes them into `schemas/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.models import (
    ComponentStatus,
    Failure,
    HealthReport,
    HeartbeatRecord,
    ServiceInfo,
)
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.domain.wire import (
    ErrorDict,
    HealthJsonDict,
    LiveDict,
    ReadyDict,
    StatusDict,
    UpDown,
)
from cqrs_ddd_health.web.openapi import openapi

__all__ = ["schemas", "write_schemas"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX = "urn:cqrs-ddd-health:schema:"

_TYPES: Mapping[str, TypeAdapter[Any]] = {
    "check-options": TypeAdapter(CheckOptions),
    "component-status": TypeAdapter(ComponentStatus),
    "components": TypeAdapter(dict[str, UpDown]),
    "error": TypeAdapter(ErrorDict),
    "failure": TypeAdapter(Failure),
    "health-json": TypeAdapter(HealthJsonDict),
    "health-report": TypeAdapter(HealthReport),
    "heartbeat-record": TypeAdapter(HeartbeatRecord),
    "live": TypeAdapter(LiveDict),
    "ready": TypeAdapter(ReadyDict),
    "service-info": TypeAdapter(ServiceInfo),
    "settings": TypeAdapter(HealthSettings),
    "status": TypeAdapter(StatusDict),
}
_WORDS = {
    "components": {
        "title": "Components",
        "description": "What `await registry.check_all()` returns: each component, up or down.",
    }
}


def schemas() -> dict[str, JsonSchemaValue]:
    """Return the JSON Schema (2020-12) of each type by its name.

    In serialization mode: every field is required, as it is in what the library writes.
    """
    return {name: _schema(name, adapter) for name, adapter in _TYPES.items()}


def write_schemas(directory: Path) -> list[Path]:
    """Write each schema to `<name>.json` in `directory`, and `openapi.json`; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for name, schema in sorted({**schemas(), "openapi": openapi()}.items()):
        file = directory / f"{name}.json"
        file.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        files.append(file)
    return files


def _schema(name: str, adapter: TypeAdapter[Any]) -> JsonSchemaValue:
    exported = adapter.json_schema(mode="serialization")
    return {"$schema": DIALECT, "$id": f"{ID_PREFIX}{name}", **_WORDS.get(name, {}), **exported}
