"""What Prometheus' own tools say of the metrics, and what a real Prometheus keeps of them.

`promtool` and `prometheus` are Debian's package `prometheus`.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.collector import HealthCollector, encoded
from cqrs_ddd_health.prometheus import start_metrics_server
from cqrs_ddd_health.testing import FakeCheck
from cqrs_ddd_health.web import formats
from tests.core.actors import eventually_sync
from tests.service import Service, bare_environment

PROMETHEUS = Path("/usr/bin/prometheus")
PROMTOOL = Path("/usr/bin/promtool")

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
def test_promtool_finds_nothing_in_the_metrics(registry: HealthRegistry) -> None:
    body = encoded(HealthCollector(registry), formats.PLAIN)
    assert PROMTOOL.exists(), "apt-get install prometheus"
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class Prometheus:
    """A real one, that scrapes these ports of this host each second."""

    def __init__(self, directory: Path, ports: dict[str, int]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            for job, target in ports.items()
        ]
        config = directory / "prometheus.yml"
        config.write_text(
            json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}), "utf-8"
        )
        self._log = (directory / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(PROMETHEUS, f"--config.file={config}"),
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10
        )

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer, or nothing while it does not answer."""
        try:
            return self._api.get(path, params=query).json()["data"]
        except (httpx.TransportError, ValueError, KeyError):
            return {}

    def values(self, query: str, label: str) -> dict[str, float]:
        """Return the values of an instant query by one label."""
        found = self.get("/query", query=query).get("result", [])
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

    def close(self) -> None:
        """End it."""
        self._api.close()
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@pytest.fixture
def scraping(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    assert PROMETHEUS.exists(), "apt-get install prometheus"
    started: list[Prometheus] = []

    def start(**ports: int) -> Prometheus:
        started.append(Prometheus(tmp_path, ports))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.close()


def test_a_real_prometheus_keeps_what_a_service_and_a_worker_say(
    scraping: Callable[..., Prometheus], tmp_path: Path
) -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0.1))
    often = CheckOptions(interval_seconds=0.2, down_interval_seconds=0.2)
    check = registry.register(DATABASE, FakeCheck(OSError()), options=often)
    registry.heartbeat("outbox")
    environment = bare_environment(tmp_path)
    with (
        Service.of_cli("--demo", environment=environment, directory=tmp_path) as service,
        start_metrics_server(registry, 0) as server,
    ):
        there = scraping(service=service.port, worker=server.port)
        eventually_sync(lambda: there.values("up", "job") == {"service": 1, "worker": 1})
        up = 'cqrs_health_component_up{job="worker"}'
        eventually_sync(lambda: there.values(up, "component") == {DATABASE: 0, "outbox": 1})
        assert there.values('cqrs_health_status{job="worker"}', "job") == {"worker": 2}
        assert there.values("cqrs_health_heartbeat_age_seconds", "worker")["outbox"] > 0
        check.result = CheckResult()
        eventually_sync(lambda: there.values(up, "component") == {DATABASE: 1, "outbox": 1})
        failed = 'increase(cqrs_health_check_failures_total{job="worker",kind="exception"}[1m])'
        eventually_sync(lambda: there.values(failed, "component").get(DATABASE, 0) > 0)
        (described,) = there.get("/metadata", metric="cqrs_health_heartbeat_age_seconds").values()
        assert {each["unit"] for each in described} == {"seconds"}  # OpenMetrics was agreed on
        components = service.get("/health").json["components"]
        assert there.values('cqrs_health_component_up{job="service"}', "component") == {
            name: float(state == "up") for name, state in components.items()
        }
        assert {each["lastError"] for each in there.get("/targets")["activeTargets"]} == {""}
