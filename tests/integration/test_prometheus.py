"""What Prometheus' own tools say of the metrics, and what a real Prometheus keeps of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.testing import FakeCheck
from cqrs_ddd_health.web import responses as formats
from cqrs_ddd_health.web.collector import HealthCollector, encoded
from tests.core.actors import eventually_sync

from .monitoring import run_tool, watched_demo

DATABASE = 'data"base\\'
HOSTILE = ['quo"te', "back\\slash", "end\\", 'a{b="c"} 1', "\\n", "# EOF", "naïve ☃"]


def hostile() -> HealthRegistry:
    registry = HealthRegistry(settings=HealthSettings(metrics_max_names=5))
    for name in HOSTILE:
        registry.register(name, FakeCheck(OSError(name)))
        registry.heartbeat(name)
    registry.report_sync()
    return registry


@pytest.mark.parametrize("registry", [hostile(), HealthRegistry(settings=HealthSettings())])
def test_promtool_finds_nothing_in_the_metrics(registry: HealthRegistry, tmp_path: Path) -> None:
    body = encoded(HealthCollector(registry), formats.PLAIN)
    done = run_tool("promtool", "check", "metrics", directory=tmp_path, stdin=body)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_real_prometheus_keeps_what_a_service_and_a_worker_say(tmp_path: Path) -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0.1))
    often = CheckOptions(interval_seconds=0.2, down_interval_seconds=0.2)
    check = registry.register(DATABASE, FakeCheck(OSError()), options=often)
    registry.heartbeat("outbox")
    with watched_demo(registry, tmp_path) as (there, service):
        eventually_sync(lambda: there.values("up", "job") == {"service": 1, "worker": 1})
        up = 'cqrs_health_component_up{job="worker"}'
        eventually_sync(lambda: there.values(up, "component") == {DATABASE: 0, "outbox": 1})
        assert there.values('cqrs_health_status{job="worker"}', "job") == {"worker": 2}
        assert there.values("cqrs_health_heartbeat_age_seconds", "worker")["outbox"] > 0
        failed = 'increase(cqrs_health_check_failures_total{job="worker",kind="exception"}[1m])'
        eventually_sync(lambda: there.values(failed, "component").get(DATABASE, 0) > 0)
        check.result = CheckResult()
        eventually_sync(lambda: there.values(up, "component") == {DATABASE: 1, "outbox": 1})
        (described,) = there.get("/metadata", metric="cqrs_health_heartbeat_age_seconds").values()
        assert {each["unit"] for each in described} == {"seconds"}  # OpenMetrics was agreed on
        components = service.get("/health").json["components"]
        assert there.values('cqrs_health_component_up{job="service"}', "component") == {
            name: float(state == "up") for name, state in components.items()
        }
        assert {each["lastError"] for each in there.get("/targets")["activeTargets"]} == {""}
