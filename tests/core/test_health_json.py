"""`application/health+json`: any report has a body that is valid and says the same."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from pydantic import TypeAdapter

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthReport, HealthSettings
from cqrs_ddd_health.domain.models import ComponentState
from cqrs_ddd_health.domain.wire import HealthJsonDict
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.health_json import health_json_dict
from tests.core.actors import Told
from tests.core.asgi_client import Response, request
from tests.core.strategies import reports
from tests.core.test_schema import validator

ACCEPT = {"accept": "application/health+json"}
SAID = {"up": "pass", "degraded": "warn", "down": "fail"}
ADAPTER = TypeAdapter[HealthJsonDict](HealthJsonDict)


@given(reports())
def test_any_report_has_a_valid_body(report: HealthReport) -> None:
    body = json.loads(json.dumps(health_json_dict(report)))
    validator("health-json").validate(body)
    assert ADAPTER.validate_json(json.dumps(body)) == body
    said = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}
    assert body["status"] == said[report.status]
    entries = [entry for entries in body["checks"].values() for entry in entries]
    assert len(entries) == len(report.components) + len(report.heartbeats)
    states = [row.state for row in report.components]
    states += [record.state for record in report.heartbeats]
    assert sorted(entry["status"] for entry in entries) == sorted(SAID[state] for state in states)
    assert all(key.count(":") <= 1 for key in body["checks"])


async def answer_of(registry: HealthRegistry) -> Response:
    return await request(health_app(registry), "/health/report", headers=ACCEPT)


@pytest.mark.parametrize(
    ("state", "critical", "code", "status"),
    [
        ("up", True, 200, "pass"),
        ("degraded", True, 200, "warn"),
        ("down", False, 200, "warn"),
        ("down", True, 503, "fail"),
    ],
)
async def test_the_status_decides_the_code(
    state: ComponentState, critical: bool, code: int, status: str
) -> None:
    registry = HealthRegistry()
    registry.register("database", Told(CheckResult(state=state)), critical=critical)
    answer = await answer_of(registry)
    assert (answer.code, answer.json["status"]) == (code, status)
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["vary"] == "Accept, Authorization"


async def test_what_is_in_it() -> None:
    said = HealthSettings(
        detail="full", service_name="orders", service_version="1.2", max_heartbeats=1
    )
    registry = HealthRegistry(settings=said, clock=FakeClock())
    registry.register("a:b", Told(ValueError("it broke")))
    registry.heartbeat("relay", instance="host:1")
    registry.heartbeat("relay", instance="host:2")
    registry.heartbeat("relay", instance="host:3")
    registry.expect("never", grace_seconds=60)
    body = cast("HealthJsonDict", (await answer_of(registry)).json)
    at = "2026-01-01T00:00:00+00:00"
    assert {key: body.get(key) for key in ("status", "serviceId", "version", "notes")} == {
        "status": "fail",
        "serviceId": "orders",
        "version": "1.2",
        "notes": ["1 more instances of workers are not shown"],
    }
    assert body["checks"]["a%3Ab:responseTime"] == [
        {
            "componentId": "a:b",
            "componentType": "component",
            "status": "fail",
            "output": "exception: ValueError: it broke",
            "observedValue": 0.0,
            "observedUnit": "s",
            "time": at,
        }
    ]
    assert body["checks"]["relay"][0]["status"] == "pass"
    assert body["checks"]["never"][0].get("observedValue") is None
    instances = body["checks"]["relay:heartbeatAge"]
    assert {entry["componentId"] for entry in instances} < {"host:1", "host:2", "host:3"}
    assert {entry.get("observedValue") for entry in instances} == {0.0}


async def test_strangers_see_no_more_in_it_than_in_the_report() -> None:
    registry = HealthRegistry(settings=HealthSettings(service_version="of-today"))
    registry.register("database", Told(ValueError("it broke")))
    registry.heartbeat("relay", instance="host:1")
    answer = await answer_of(registry)
    body = cast("HealthJsonDict", answer.json)
    assert body["checks"]["database:responseTime"][0].get("output") == "exception: ValueError"
    assert body["checks"]["relay:heartbeatAge"][0]["componentId"] == "relay"
    assert "version" not in body
    assert "of-today" not in answer.text
