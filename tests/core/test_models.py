"""Strict, frozen, closed models: what they hold comes back whole, and nothing changes it."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from cqrs_ddd_health.domain.models import (
    CheckResult,
    ComponentState,
    ComponentStatus,
    Failure,
    HealthReport,
    HeartbeatRecord,
    ServiceInfo,
    overall_status,
    severity,
)
from cqrs_ddd_health.domain.transitions import Transition
from tests.examples import examples

from .strategies import (
    heartbeats,
    kinds_that_run,
    moments,
    reports,
    rows,
    seconds,
    utc_moments,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = (reports() | rows()) | heartbeats()


def row(name: str = "database", state: ComponentState = "up", **more: object) -> ComponentStatus:
    known: dict[str, object] = {"name": name, "state": state, "since": AT, "checked_at": AT}
    if state != "up":
        known["failure"] = Failure(kind="falsy", since=AT)
    return ComponentStatus.model_validate({**known, **more})


@given(MODELS)
@settings(max_examples=examples(300))
def test_json_round_trips_to_an_equal_model(model: BaseModel) -> None:
    encoded = model.model_dump_json()
    again = type(model).model_validate_json(encoded)
    assert again == model
    assert hash(again) == hash(model)
    assert again.model_dump_json() == encoded


@given(MODELS)
def test_json_is_strict_json(model: BaseModel) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(model.model_dump_json(), parse_constant=refuse)


@given(MODELS)
def test_a_dump_in_python_validates_to_an_equal_model(model: BaseModel) -> None:
    assert type(model).model_validate(model.model_dump()) == model


@given(MODELS)
def test_models_are_hashable_picklable_and_copyable(model: BaseModel) -> None:
    assert pickle.loads(pickle.dumps(model)) == model
    assert copy.copy(model) == model
    assert copy.deepcopy(model) == model
    assert hash(copy.deepcopy(model)) == hash(model)


@given(MODELS)
def test_no_field_can_be_changed_or_deleted(model: BaseModel) -> None:
    for name in type(model).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, getattr(model, name))
        with pytest.raises(ValidationError, match="frozen"):
            delattr(model, name)


@given(MODELS)
def test_no_field_can_be_added(model: BaseModel) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(model).model_validate({**model.model_dump(), "extra": 1})


@given(MODELS, st.data())
def test_json_must_have_every_key(model: BaseModel, data: st.DataObject) -> None:
    raw = json.loads(model.model_dump_json())
    del raw[data.draw(st.sampled_from(sorted(raw)))]
    with pytest.raises(ValidationError):
        type(model).model_validate_json(json.dumps(raw))


@given(rows(), moments)
def test_times_are_utc_whatever_the_offset_was(any_row: ComponentStatus, moment: datetime) -> None:
    moved = ComponentStatus.model_validate({**any_row.__dict__, "since": moment})
    assert moved.since == moment
    assert moved.since.tzinfo is UTC


@pytest.mark.parametrize(
    "given_value",
    [
        {"name": b"x"},
        {"state": "UP"},
        {"kind": "thing"},
        {"critical": 1},
        {"critical": "yes"},
        {"tags": ["a"]},
        {"tags": "a"},
        {"tags": ("",)},
        {"probes": ("health",)},
        {"since": "2026-01-01T00:00:00Z"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive is what is refused
        {"since": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
        {"since": 0},
        {"checked_at": AT.date()},
        {"latency_seconds": -0.001},
        {"latency_seconds": math.nan},
        {"latency_seconds": math.inf},
        {"latency_seconds": "1"},
        {"latency_seconds": True},
        {"consecutive_failures": -1},
        {"consecutive_failures": 0.0},
        {"details": [1]},
        {"details": {"a": math.nan}},
        {"details": {1: "a"}},
        {"details": {"a": "\ud800"}},
        {"details": {"a": ...}},
        {"name": ""},
        {"name": " "},
        {"name": "x" * 129},
        {"name": "a\nb"},
        {"name": "a\u202eb"},
    ],
    ids=repr,
)
def test_a_row_takes_no_value_of_the_wrong_type_or_range(given_value: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ComponentStatus.model_validate({**row().__dict__, **given_value})


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00+0000",
        "2026-13-01T00:00:00Z",
        "1767225600",
        "0001-01-01T00:00:00+05:00",
        "",
    ],
)
def test_a_time_in_json_is_rfc_3339_and_nothing_else(text: str) -> None:
    raw = {**json.loads(row().model_dump_json()), "since": text}
    with pytest.raises(ValidationError, match="since"):
        ComponentStatus.model_validate_json(json.dumps(raw))


def test_a_row_that_is_up_has_no_failure() -> None:
    with pytest.raises(ValidationError, match="that is up has no failure"):
        row(failure=Failure(kind="falsy", since=AT))


@pytest.mark.parametrize("state", ["degraded", "down"])
def test_a_row_that_is_not_up_needs_a_failure(state: ComponentState) -> None:
    with pytest.raises(ValidationError, match=f"that is {state} needs a failure"):
        row(state=state, failure=None)
    with pytest.raises(ValidationError, match="needs a failure"):
        ComponentStatus(name="a", state=state, since=AT)


def test_a_row_that_nobody_looked_at_is_not_up() -> None:
    with pytest.raises(ValidationError, match="nobody looked at"):
        row(checked_at=None)


def test_a_row_that_is_up_has_no_failures_in_a_row() -> None:
    with pytest.raises(ValidationError, match="no failures in a row"):
        row(consecutive_failures=1)


def test_a_worker_has_no_latency() -> None:
    with pytest.raises(ValidationError, match="worker is never run"):
        row(kind="worker", latency_seconds=0.1)


def test_a_store_is_never_critical() -> None:
    with pytest.raises(ValidationError, match="critical"):
        row(kind="store")
    assert not row(kind="store", critical=False).critical


def test_a_latency_belongs_to_a_run() -> None:
    with pytest.raises(ValidationError, match="without checked_at"):
        row(state="down", checked_at=None, latency_seconds=0.1)


@given(rows(kinds_that_run), utc_moments | moments, seconds)
@settings(max_examples=examples(200))
def test_a_measured_row_equals_the_validated_one(
    any_row: ComponentStatus, checked_at: datetime, latency: float
) -> None:
    before = any_row.model_dump_json()
    measured = any_row.measured(checked_at, latency)
    assert any_row.model_dump_json() == before, "measuring changes no other row"
    changed = {"checked_at": checked_at, "latency_seconds": latency}
    validated = ComponentStatus.model_validate({**any_row.__dict__, **changed})
    assert measured == validated
    assert hash(measured) == hash(validated)
    assert measured.model_fields_set == validated.model_fields_set
    assert measured.model_dump_json() == validated.model_dump_json()
    assert measured.checked_at is not None
    assert measured.checked_at.tzinfo is UTC
    assert ComponentStatus.model_validate_json(measured.model_dump_json()) == measured
    assert pickle.loads(pickle.dumps(measured)) == measured


@given(rows(), st.sampled_from([-1.0, -0.1, math.nan, math.inf, -math.inf]))
def test_a_bad_measurement_is_refused(any_row: ComponentStatus, latency: float) -> None:
    with pytest.raises(ValidationError, match="latency_seconds"):
        any_row.measured(AT, latency)


def test_a_naive_measurement_is_refused() -> None:
    for any_row in (row(), row(latency_seconds=1.0), row(state="down")):
        with pytest.raises(ValidationError, match="checked_at"):
            any_row.measured(datetime(2026, 1, 1), 1.0)  # noqa: DTZ001 - what is refused


def test_a_worker_cannot_be_measured() -> None:
    with pytest.raises(ValidationError, match="worker is never run"):
        row(kind="worker").measured(AT, 1.0)


def test_a_whole_number_of_seconds_is_measured_as_a_float() -> None:
    assert type(row(latency_seconds=0.5).measured(AT, 1).latency_seconds) is float


def record(**more: object) -> HeartbeatRecord:
    known: dict[str, object] = {"worker": "outbox", "state": "up", "timeout_seconds": 60.0}
    known |= {"last_seen": AT - timedelta(seconds=5), "age_seconds": 5.0}
    return HeartbeatRecord.model_validate({**known, **more})


@pytest.mark.parametrize("missing", ["last_seen", "age_seconds"])
def test_a_beat_is_seen_with_an_age_or_not_at_all(missing: str) -> None:
    with pytest.raises(ValidationError, match="together or not at all"):
        record(state="down", **{missing: None})


@pytest.mark.parametrize(
    "more",
    [
        {"last_seen": None, "age_seconds": None},
        {"age_seconds": 60.1},
        {"timeout_seconds": 0.0, "age_seconds": 0.0},
        {"timeout_seconds": 0.0, "publish_interval_seconds": 10.0},
    ],
)
def test_a_beat_that_is_missing_or_too_old_is_not_up(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="missing or too old"):
        record(**more)


def test_the_publish_interval_is_granted_on_top_of_the_timeout() -> None:
    assert record(age_seconds=65.0, publish_interval_seconds=5.0).state == "up"


def report(*components: ComponentStatus, **more: object) -> HealthReport:
    known = {"status": overall_status(components), "components": components, "timestamp": AT}
    return HealthReport.model_validate({**known, **more})


@given(reports(), st.sampled_from([0, 1]))
def test_a_report_says_what_follows_from_its_rows(any_report: HealthReport, which: int) -> None:
    other = sorted({"healthy", "degraded", "unhealthy"} - {any_report.status})[which]
    with pytest.raises(ValidationError, match="but follows as"):
        HealthReport.model_validate({**any_report.__dict__, "status": other})


def test_two_rows_of_one_kind_have_two_names() -> None:
    with pytest.raises(ValidationError, match="same name"):
        report(row(), row())
    with pytest.raises(ValidationError, match="same name"):
        report(row(), row(kind="worker"), row())


def test_a_check_and_a_worker_may_share_a_name() -> None:
    assert len(report(row(), row(kind="worker")).components) == 2


@pytest.mark.parametrize("off", [-1.0, 0.01, 1e9, 1e300])
def test_a_beat_was_seen_at_the_reports_time_less_its_age(off: float) -> None:
    beat = record(state="down", age_seconds=max(5.0 + off, 0.0))
    with pytest.raises(ValidationError, match="is not the report's time less its age"):
        report(heartbeats=(beat,))


def test_a_beat_never_seen_fits_any_report() -> None:
    beat = HeartbeatRecord(worker="outbox", state="down", timeout_seconds=60.0)
    assert report(heartbeats=(beat,)).heartbeats == (beat,)


@pytest.mark.parametrize(
    "more",
    [
        {"heartbeats_omitted": -1},
        {"duration_seconds": -1.0},
        {"duration_seconds": math.nan},
        {"draining": 0},
        {"timestamp": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive is what is refused
        {"components": []},
        {"service": None},
    ],
    ids=repr,
)
def test_a_report_takes_no_value_of_the_wrong_type_or_range(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        report(**more)


@given(reports())
def test_the_overall_status_is_the_worst_with_the_non_critical_as_degraded(
    any_report: HealthReport,
) -> None:
    broken = [c for c in any_report.components if c.state != "up"]
    fatal = any(c.critical and c.state == "down" for c in broken)
    expected = "unhealthy" if fatal else "degraded" if broken else "healthy"
    assert any_report.status == expected
    assert overall_status(reversed(any_report.components)) == expected


def test_nothing_asked_is_healthy() -> None:
    assert report().status == "healthy"


def test_a_component_is_found_by_its_name_the_worst_one_first() -> None:
    up, down = row(), row(kind="worker", state="down")
    assert report(up, down, row("other")).component("database") is down
    assert report(down, up).component("database") is down
    assert report(up).component("nope") is None


def test_states_have_one_order() -> None:
    states: list[ComponentState] = ["down", "up", "degraded"]
    assert sorted(states, key=severity) == ["up", "degraded", "down"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Failure(kind="exception", exception_type="", since=AT),
        lambda: Failure(kind="exception", exception_type="x" * 201, since=AT),
        lambda: Failure(kind="exception", message="x" * 501, since=AT),
        lambda: ServiceInfo(name=""),
        lambda: CheckResult.model_validate({"state": "healthy"}),
        lambda: CheckResult.model_validate({"details": [1]}),
        lambda: Transition(name="", kind="check", before=None, after="up", at=AT, failure=None),
    ],
)
def test_the_other_models_are_as_strict(build: Callable[[], object]) -> None:
    with pytest.raises(ValidationError):
        build()
