"""The schemas say what is on the wire, and refuse together with the models what is not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthReport, HealthSettings
from cqrs_ddd_health.cli.export.schemas import schemas, write_schemas
from cqrs_ddd_health.domain.contract import components_dict, ready_dict, status_dict
from cqrs_ddd_health.domain.wire import LiveDict, ReadyDict, StatusDict, UpDown
from cqrs_ddd_health.testing import FakeClock
from tests.examples import examples

from .corruptions import Json, Object, Place, Schema, accepted, changed_at, corruptions, is_accepted
from .strategies import reports

DIRECTORY = Path(__file__).parents[2] / "schemas"
NAMES = sorted(schemas())
FILES = sorted([*NAMES, "openapi"])


def validator(name: str) -> Schema:
    """Return the validator of the committed file, formats included."""
    schema = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    checker = Draft202012Validator.FORMAT_CHECKER
    return cast("Schema", Draft202012Validator(schema, format_checker=checker))


@pytest.mark.newest  # another release of pydantic describes the same in other words
def test_the_committed_files_are_what_the_code_exports(tmp_path: Path) -> None:
    written = write_schemas(tmp_path / "schemas")
    committed = {file.name: file.read_bytes() for file in DIRECTORY.iterdir()}
    assert {file.name: file.read_bytes() for file in written} == committed


def export(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cqrs_ddd_health.cli", "export", "schemas", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, cwd=directory, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [[], ["some/where"]], ids=["default", "given"])
def test_the_command_writes_the_files_and_names_them(tmp_path: Path, arguments: list[str]) -> None:
    run = export(tmp_path, *arguments)
    assert (run.returncode, run.stderr) == (0, "")
    directory = Path(*arguments or ["schemas"])
    assert run.stdout.splitlines() == [str(directory / f"{name}.json") for name in FILES]
    written = {file.name: file.read_bytes() for file in (tmp_path / directory).iterdir()}
    assert written == {file.name: file.read_bytes() for file in write_schemas(tmp_path / "here")}


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "schemas").touch()
    run = export(tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert "cannot write the schemas" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_described(name: str) -> None:
    schema = schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:cqrs-ddd-health:schema:{name}"
    assert schema["title"]
    assert schema["description"]


def _objects(schema: Json) -> Iterator[Object]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema and "title" in schema:
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


# What has no value is left out, as the draft has it; we write null.
_OPTIONAL_KEYS = {
    "serviceId",
    "version",
    "notes",
    "observedValue",
    "observedUnit",
    "time",
    "output",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_closed_and_every_field_required(name: str) -> None:
    schema = cast("Json", schemas()[name])
    objects = list(_objects(schema))
    assert objects or name == "components"
    for found in objects:
        properties = found["properties"]
        assert isinstance(properties, dict)
        assert found["additionalProperties"] is False
        optional = _OPTIONAL_KEYS if name == "health-json" else frozenset[str]()
        assert found["required"] == [key for key in properties if key not in optional]


def test_the_settings_and_options_are_valid_as_they_are_dumped() -> None:
    given_settings = HealthSettings.model_validate({"checks": {"db": {"tags": "a"}}})
    dumped = json.loads(given_settings.model_dump_json())
    validator("settings").validate(dumped)
    assert dumped["checks"]["db"].pop("url") is None
    validator("check-options").validate(dumped["checks"]["db"])


def _raise() -> bool:
    raise OSError("gone")


async def _hang() -> bool:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if asyncio.current_task() in _released:
                raise


_released: set[asyncio.Task[object] | None] = set()


async def _make_report() -> HealthReport:
    """Return the report of a real registry with a row of every sort."""
    clock = FakeClock()
    settings = HealthSettings.model_validate(
        {
            "required": ("payments",),
            "service_name": "shop",
            "service_version": "1.2",
            "instance": "host:1",
        }
    )
    registry = HealthRegistry(30, settings=settings, clock=clock)
    registry.register("database", lambda: CheckResult(details={"pool": {"size": 5}}), tags=("db",))
    registry.register("cache", lambda: CheckResult(state="degraded", message="slow"))
    registry.register("broker", _raise, critical=False)
    registry.register("search", _hang, timeout_seconds=0.01, probes=("ready", "startup"))
    registry.heartbeat("outbox", instance="stale")
    registry.heartbeat("outbox", timeout_seconds=600, phase="sending", progress=7)
    registry.heartbeat("old")
    registry.expect("projections", grace_seconds=0)
    clock.advance(60)
    await registry.report()
    clock.advance(1)
    report = await registry.report()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    return report


@pytest.fixture(scope="module")
def report() -> HealthReport:
    return asyncio.run(_make_report())


@pytest.fixture(scope="module")
def body(report: HealthReport) -> Object:
    return cast("Object", json.loads(report.model_dump_json()))


def test_the_report_has_a_row_of_every_sort(report: HealthReport) -> None:
    kinds = {row.failure and row.failure.kind for row in report.components}
    assert kinds == {None, "reported", "exception", "hung", "stale", "missing"}
    assert {row.state for row in report.components} == {"up", "degraded", "down"}
    assert {row.kind for row in report.components} == {"check", "worker"}
    assert {beat.state for beat in report.heartbeats} == {"up", "down"}
    assert None in {beat.age_seconds for beat in report.heartbeats}


def test_a_real_report_is_valid(body: Object, report: HealthReport) -> None:
    validator("health-report").validate(body)
    assert HealthReport.model_validate_json(json.dumps(body)) == report
    components = cast("list[Json]", body["components"])
    for row in components:
        validator("component-status").validate(row)
        if isinstance(row, dict) and row["failure"] is not None:
            validator("failure").validate(row["failure"])
    for beat in cast("list[Json]", body["heartbeats"]):
        validator("heartbeat-record").validate(beat)
    validator("service-info").validate(body["service"])


@given(reports())
@settings(max_examples=examples(50))
def test_any_report_is_valid(any_report: HealthReport) -> None:
    validator("health-report").validate(json.loads(any_report.model_dump_json()))
    validator("components").validate(components_dict(any_report))
    validator("status").validate(status_dict(any_report))
    validator("ready").validate(ready_dict(any_report))


# --- corruptions


def test_every_corruption_of_a_report_is_refused_by_schema_and_model(body: Object) -> None:
    assert sum(1 for _ in corruptions(body)) > 1_000
    assert accepted(validator("health-report"), TypeAdapter[object](HealthReport), body) == []


DICTS: dict[str, tuple[TypeAdapter[object], Callable[[HealthReport], object]]] = {
    "components": (TypeAdapter[object](dict[str, UpDown]), components_dict),
    "status": (TypeAdapter[object](StatusDict), status_dict),
    "ready": (TypeAdapter[object](ReadyDict), ready_dict),
    "live": (TypeAdapter[object](LiveDict), lambda _: {"status": "alive"}),
}
# These are maps from names: they take any key, and a key less is another map.
MAPS: dict[str, tuple[Place, ...]] = {
    "components": ((),),
    "status": (("components",), ("heartbeats",)),
    "ready": (("components",),),
    "live": (),
}


@pytest.mark.parametrize("name", DICTS)
def test_the_contracts_dicts_are_valid(name: str, report: HealthReport) -> None:
    adapter, make = DICTS[name]
    made = make(report)
    validator(name).validate(made)
    assert adapter.validate_json(json.dumps(made)) == made


@pytest.mark.parametrize("name", DICTS)
def test_every_corruption_of_the_contracts_dicts_is_refused_by_both(
    name: str, report: HealthReport
) -> None:
    adapter, make = DICTS[name]
    made = cast("Json", make(report))
    assert accepted(validator(name), adapter, made, MAPS[name]) == []


# --- contradictions: the model refuses all, the schema where JSON Schema has words for them


def _to(value: Json) -> Callable[[Json], Json]:
    return lambda _: value


def _row(body: Object, name: str) -> tuple[Place, Object]:
    rows = cast("list[Object]", body["components"])
    index = next(i for i, row in enumerate(rows) if row["name"] == name)
    return ("components", index), rows[index]


CONTRADICTIONS: list[tuple[str, str, Object]] = [
    (
        "up with a failure",
        "database",
        {
            "failure": {
                "kind": "falsy",
                "exception_type": None,
                "message": None,
                "since": "2026-01-01T00:00:00Z",
            }
        },
    ),
    ("up with failures in a row", "database", {"consecutive_failures": 1}),
    ("up, though nobody looked", "database", {"checked_at": None, "latency_seconds": None}),
    ("a latency without a look", "cache", {"checked_at": None, "latency_seconds": 0.1}),
    ("degraded without a failure", "cache", {"failure": None}),
    ("down without a failure", "search", {"failure": None}),
    ("a worker with a latency", "outbox", {"latency_seconds": 0.1}),
    ("a store that is critical", "database", {"kind": "store"}),
]


@pytest.mark.parametrize(
    ("what", "name", "change"), CONTRADICTIONS, ids=lambda value: str(value)[:30]
)
def test_a_contradiction_in_a_row_is_refused_by_schema_and_model(
    what: str, name: str, change: Object, body: Object
) -> None:
    place, row = _row(body, name)
    changed = changed_at(body, place, _to({**row, **change}))
    assert not validator("health-report").is_valid(changed), what
    assert not is_accepted(TypeAdapter[object](HealthReport), changed), what


@pytest.mark.parametrize(
    "change",
    [
        {"last_seen": None},
        {"age_seconds": None},
        {"last_seen": None, "age_seconds": None},
        {"timeout_seconds": 0.0},
    ],
    ids=str,
)
def test_a_contradiction_in_a_beat_is_refused_by_schema_and_model(
    change: Object, body: Object
) -> None:
    beats = cast("list[Object]", body["heartbeats"])
    index = next(i for i, beat in enumerate(beats) if beat["state"] == "up")
    changed = changed_at(body, ("heartbeats", index), _to({**beats[index], **change}))
    assert not validator("health-report").is_valid(changed)
    assert not is_accepted(TypeAdapter[object](HealthReport), changed)


@pytest.mark.parametrize(
    ("names", "follows"),
    [
        (("database",), "healthy"),
        (("database", "cache"), "degraded"),
        (("database", "broker"), "degraded"),
        (("broker", "search"), "unhealthy"),
        ((), "healthy"),
    ],
)
def test_a_status_that_does_not_follow_is_refused_by_schema_and_model(
    names: tuple[str, ...], follows: str, body: Object
) -> None:
    rows: list[Json] = [_row(body, name)[1] for name in names]
    for status in ("healthy", "degraded", "unhealthy"):
        changed: Object = {**body, "status": status, "components": rows}
        assert validator("health-report").is_valid(changed) is (status == follows)
        assert is_accepted(TypeAdapter[object](HealthReport), changed) is (status == follows)


def test_what_json_schema_has_no_words_for_is_refused_by_the_model(body: Object) -> None:
    beats = cast("list[Object]", body["heartbeats"])
    index = next(i for i, beat in enumerate(beats) if beat["state"] == "up")
    rows = cast("list[Json]", body["components"])
    without_words: list[Json] = [
        {**body, "components": [*rows, rows[0]]},
        changed_at(body, ("heartbeats", index, "timeout_seconds"), _to(1.0)),
        changed_at(body, ("heartbeats", index, "age_seconds"), _to(1.0)),
        {**body, "timestamp": "2026-01-01T00:00:00Z"},
    ]
    for changed in without_words:
        assert validator("health-report").is_valid(changed)
        assert not is_accepted(TypeAdapter[object](HealthReport), changed)


def test_a_contradiction_in_the_contracts_dicts_is_refused_by_the_schema() -> None:
    status: Object = {"timestamp": "2026-01-01T00:00:00+00:00", "heartbeats": {}}
    for says, components in (("healthy", {"a": "down"}), ("unhealthy", {"a": "up"})):
        assert not validator("status").is_valid(
            {**status, "status": says, "components": components}
        )
    assert not validator("ready").is_valid({"ready": True, "components": {"a": "down"}})
