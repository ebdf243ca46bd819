"""The metrics of a registry as Prometheus reads them, whatever is in their labels."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cqrs_ddd_health import (
    CheckResult,
    DuplicateNameError,
    HealthRegistry,
    HealthSettings,
    InvalidOptionError,
    MemoryHeartbeatStore,
    StoredBeat,
)
from cqrs_ddd_health.engine.tallies import BOUNDS
from cqrs_ddd_health.prometheus import HealthCollector
from cqrs_ddd_health.testing import FakeCheck, FakeClock
from cqrs_ddd_health.web import responses as formats
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.collector import encoded, is_collected_by
from tests.contract.stage import Stage, stage_in
from tests.core.asgi_client import request
from tests.documents import python_blocks
from tests.servers import OwnRedis

Parser: TypeAlias = "Callable[[str], Iterable[Metric]]"
NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)
NAMES = [
    "cqrs_health_component_up",
    "cqrs_health_heartbeat_age_seconds",
    "cqrs_health_status",
    "cqrs_health_ready",
    "cqrs_health_component_state",
    "cqrs_health_component_critical",
    "cqrs_health_check_duration_seconds",
    "cqrs_health_check_failures",
    "cqrs_health_last_check_timestamp_seconds",
    "cqrs_health_worker_instances",
    "cqrs_health_hung_checks",
    "cqrs_health_dropped",
]


class Scraped:
    """What a scrape brings, by name and labels."""

    def __init__(self, registry: HealthRegistry) -> None:
        self.health = registry
        self.collectors = CollectorRegistry()
        HealthCollector(registry, self.collectors)

    def value(self, name: str, **labels: str) -> float | None:
        return self.collectors.get_sample_value(f"cqrs_health_{name}", labels)

    def labels(self, name: str, label: str) -> list[str]:
        """Return the values of one label of a metric, in their order."""
        found = [
            sample.labels[label]
            for family in self.collectors.collect()
            for sample in family.samples
            if sample.name == f"cqrs_health_{name}"
        ]
        return list(dict.fromkeys(found))


def scraped(clock: FakeClock | None = None, **settings: object) -> Scraped:
    given = HealthSettings.model_validate(settings)
    return Scraped(HealthRegistry(settings=given, clock=clock))


def text(registry: HealthRegistry) -> str:
    return encoded(HealthCollector(registry), formats.PLAIN).decode()


# --- what the metrics say


async def test_up_is_what_the_dict_of_the_contract_says() -> None:
    it = scraped()
    it.health.register("up", FakeCheck())
    it.health.register("degraded", FakeCheck(CheckResult(state="degraded")))
    it.health.register("down", FakeCheck(OSError()))
    it.health.register("minor", FakeCheck(OSError()), critical=False)
    it.health.register("both", FakeCheck(OSError()))
    it.health.heartbeat("both")
    it.health.heartbeat("worker")
    it.health.expect("never_seen", grace_seconds=0)
    components = await it.health.check_all()
    found = {name: it.value("component_up", component=name) for name in components}
    assert found == {name: float(state == "up") for name, state in components.items()}
    assert it.labels("component_up", "component") == list(components)


@pytest.mark.parametrize(
    ("result", "critical", "status", "state"),
    [
        (CheckResult(), True, 0, "up"),
        (CheckResult(state="degraded"), True, 1, "degraded"),
        (OSError(), False, 1, "down"),
        (OSError(), True, 2, "down"),
    ],
)
async def test_the_status_and_the_state(
    result: CheckResult | Exception, critical: bool, status: int, state: str
) -> None:
    it = scraped()
    it.health.register("database", FakeCheck(result), critical=critical)
    await it.health.report()
    assert it.value("status") == status
    states = ("up", "degraded", "down")
    found = [it.value("component_state", component="database", state=each) for each in states]
    assert found == [float(each == state) for each in states]
    assert it.value("component_critical", component="database") == critical


@pytest.mark.parametrize(
    ("gates", "ready"),
    [
        ({}, 0),
        ({"probes": ("ready", "live")}, 0),
        ({"probes": ("live",)}, 1),
        ({"critical": False}, 1),
    ],
)
async def test_ready_is_what_the_probe_says(gates: dict[str, Any], ready: int) -> None:
    it = scraped(http_max_age_seconds=0)
    database = it.health.register("database", FakeCheck(OSError()), **gates)
    it.health.expect("elsewhere", grace_seconds=0, probes=())
    app = health_app(it.health)
    assert (await request(app, "/health/ready")).json["ready"] is bool(ready)
    assert it.value("ready") == ready
    database.result = CheckResult(state="degraded")
    assert (await request(app, "/health/ready")).json["ready"]
    assert it.value("ready") == 1
    it.health.drain()
    assert not (await request(app, "/health/ready")).json["ready"]
    assert it.value("ready") == 0


@pytest.mark.parametrize(("settings", "ready"), [({}, 1), ({"required": ("outbox",)}, 0)])
def test_ready_waits_for_what_is_required(settings: dict[str, Any], ready: int) -> None:
    it = scraped(**settings)
    assert it.value("ready") == ready
    it.health.heartbeat("outbox")
    assert it.value("ready") == 1


def test_the_age_is_that_of_the_youngest_beat_at_the_scrape() -> None:
    clock = FakeClock(NOON)
    it = scraped(clock)
    it.health.expect("never_seen")
    it.health.heartbeat("outbox", instance="old")
    clock.advance(100)
    it.health.heartbeat("outbox")
    for age in (0, 1.5):
        assert it.value("heartbeat_age_seconds", worker="outbox") == age
        clock.advance(1.5)
    assert it.value("heartbeat_age_seconds", worker="never_seen") is None
    instances = {
        state: it.value("worker_instances", worker="outbox", state=state)
        for state in ("up", "degraded", "down")
    }
    assert instances == {"up": 1, "degraded": 0, "down": 1}
    assert it.value("worker_instances", worker="never_seen", state="up") == 0


async def test_runs_are_a_histogram_of_eight_buckets() -> None:
    it = scraped()
    check = it.health.register("database", FakeCheck())
    for result in (CheckResult(), OSError(), CheckResult()):
        check.result = result
        await it.health.report()
    name = "check_duration_seconds"
    bounds = it.labels(f"{name}_bucket", "le")
    assert bounds == [*map(str, BOUNDS), "+Inf"]
    assert len(bounds) == 8
    assert it.value(f"{name}_count", component="database") == 3
    assert it.value(f"{name}_bucket", component="database", le="+Inf") == 3
    total = it.value(f"{name}_sum", component="database")
    assert total == it.health.measurements().runs["database"].seconds > 0
    assert it.value("check_failures_total", component="database", kind="exception") == 1
    assert it.value("check_failures_total", component="database", kind="timeout") == 0


async def test_when_it_was_checked_last_is_told_in_unix_time() -> None:
    clock = FakeClock(NOON)
    it = scraped(clock)
    it.health.register("database", FakeCheck())
    it.health.heartbeat("worker")
    assert it.value("last_check_timestamp_seconds", component="database") is None
    await it.health.report()
    clock.advance(3_600)
    assert it.labels("last_check_timestamp_seconds", "component") == ["database"]
    assert it.value("last_check_timestamp_seconds", component="database") == NOON.timestamp()


async def test_what_hangs_is_told() -> None:
    it, release = scraped(), threading.Event()
    it.health.register("stuck", release.wait, timeout_seconds=0.01)
    assert it.value("hung_checks") == 0
    await it.health.report()
    assert it.value("hung_checks") == 1
    release.set()


def test_a_scrape_starts_no_check() -> None:
    it = scraped()
    check = it.health.register("database", FakeCheck())
    for _ in range(3):
        assert it.value("component_up", component="database") == 0  # not known is not up
    assert check.calls == 0


# --- formats


HOSTILE = [
    'quo"te',
    "back\\slash",
    "end\\",
    'both\\"',
    'a{b="c"}',
    "\\n",
    "<b>",
    "naïve ☃",
    "# HELP x",
    "# EOF",
    "x" * 128,
]


@pytest.fixture
async def hostile() -> HealthRegistry:
    registry = HealthRegistry(settings=HealthSettings())
    for name in HOSTILE:
        registry.register(name, FakeCheck())
        registry.heartbeat(f"{name[:120]} worker")
    await registry.report()
    return registry


def parsed(registry: HealthRegistry, media_type: bytes) -> Iterator[Metric]:
    parse: Parser = text_string_to_metric_families
    if media_type == formats.OPENMETRICS:  # whose parser has no types
        module = import_module("prometheus_client.openmetrics.parser")
        parse = module.text_string_to_metric_families
    return iter(parse(encoded(HealthCollector(registry), media_type).decode()))


@pytest.mark.parametrize("media_type", [formats.PLAIN, formats.OPENMETRICS])
async def test_names_are_read_back_whatever_is_in_them(
    hostile: HealthRegistry, media_type: bytes
) -> None:
    families = {family.name: family for family in parsed(hostile, media_type)}
    assert list(families) == NAMES
    up = families["cqrs_health_component_up"].samples
    read = {sample.labels["component"] for sample in up}
    assert read == {*HOSTILE, *(f"{name[:120]} worker" for name in HOSTILE)}
    assert all(family.documentation for family in families.values())


async def test_openmetrics_has_the_units(hostile: HealthRegistry) -> None:
    units = {family.name: family.unit for family in parsed(hostile, formats.OPENMETRICS)}
    assert {name for name, unit in units.items() if unit == "seconds"} == {
        name for name in NAMES if name.endswith("_seconds")
    }


def test_a_registry_without_anything_has_metrics_too() -> None:
    families = list(text_string_to_metric_families(text(HealthRegistry(settings=HealthSettings()))))
    assert [family.name for family in families] == NAMES


# --- limits


async def test_names_beyond_the_limit_are_left_out_and_counted() -> None:
    it = scraped(metrics_max_names=3)
    for number in range(4):
        it.health.heartbeat(f"worker {number}")
    for number in range(5):
        it.health.register(f"check {number}", FakeCheck(OSError() if number == 4 else None))
    await it.health.report()
    assert it.value("dropped_total", what="components") == 6
    assert it.value("dropped_total", what="components") == 12  # at each scrape
    assert it.value("dropped_total", what="workers") == 3
    # What is broken is named before what is not, and no worker takes the place of a check.
    chosen = ["check 0", "check 1", "check 4"]
    for name in ("component_up", "component_critical", "check_duration_seconds_bucket"):
        assert it.labels(name, "component") == chosen
    for name in ("check_failures_total", "last_check_timestamp_seconds"):
        assert it.labels(name, "component") == chosen
    for name in ("heartbeat_age_seconds", "worker_instances"):
        assert len(it.labels(name, "worker")) == 3


def test_made_up_workers_cannot_make_more_names() -> None:
    it = scraped()
    for number in range(2_000):
        it.health.heartbeat(f"made up {number}")
    assert len(it.labels("component_up", "component")) == 200
    assert len(it.labels("worker_instances", "worker")) == 200
    assert it.value("dropped_total", what="beats") == 1_000


async def test_workers_that_have_no_row_are_counted_too() -> None:
    store = MemoryHeartbeatStore()
    await store.publish([StoredBeat(f"w {n}", "1", "t", 1, 1.0, 60.0) for n in range(9)])
    settings = HealthSettings(max_shared_workers=4)
    health = HealthRegistry(settings=settings, heartbeat_store=store)
    await health.report()
    assert 'cqrs_health_dropped_total{what="workers"} 5.0' in text(health)
    await health.aclose()


# --- where it is registered


def test_it_is_registered_where_it_is_told_and_nowhere_else() -> None:
    registry, where = HealthRegistry(settings=HealthSettings()), CollectorRegistry()
    collector = HealthCollector(registry)
    assert not is_collected_by(where, registry)
    where.register(collector)
    assert is_collected_by(where, registry)
    assert not is_collected_by(where, HealthRegistry(settings=HealthSettings()))
    assert not is_collected_by(CollectorRegistry(), registry)
    assert collector.registry is registry
    where.unregister(collector)
    HealthCollector(registry, where)


def test_two_in_one_place_are_an_error_that_names_both() -> None:
    where = CollectorRegistry()
    first, second = (
        HealthRegistry(settings=HealthSettings(service_name=name)) for name in ("orders", "billing")
    )
    HealthCollector(first, where)
    with pytest.raises(DuplicateNameError) as raised:
        HealthCollector(second, where)
    assert "HealthCollector of orders" in str(raised.value)
    assert "HealthCollector of billing" in str(raised.value)
    assert "unregister" in str(raised.value)
    HealthCollector(second, CollectorRegistry())


def test_gauges_of_the_application_with_these_names_are_named() -> None:
    where = CollectorRegistry()
    Gauge("cqrs_health_component_up", "by hand", ["component"], registry=where)
    with pytest.raises(DuplicateNameError, match=r"Gauge\(cqrs_health_component_up\)") as raised:
        HealthCollector(HealthRegistry(settings=HealthSettings()), where)
    assert "have cqrs_health_component_up;" in str(raised.value)


def test_it_collects_of_a_registry_only() -> None:
    with pytest.raises(InvalidOptionError, match="HealthRegistry"):
        HealthCollector(cast("HealthRegistry", "orders"))


GAUGES = python_blocks(Path(__file__).parents[1] / "contract" / "blocks.md")[12]


@pytest.fixture
async def stage(tmp_path: Path, own_redis: OwnRedis) -> AsyncIterator[Stage]:
    async with stage_in(tmp_path, own_redis) as stage:
        yield stage


async def test_the_gauges_of_the_contract_say_the_same_beside_it(stage: Stage) -> None:
    health = stage.health
    stage.clock.jump((datetime.now(UTC) - stage.clock.now()).total_seconds())
    where = CollectorRegistry()
    HealthCollector(health, where)
    names = await stage.run(GAUGES, datetime=sys.modules["datetime"])
    health.register("database", lambda: True)
    health.register("redis", lambda: False)
    health.expect("never_seen", grace_seconds=0)
    health.heartbeat("worker")
    await names.refresh_health_metrics()
    ours = {
        (sample.name, *sample.labels.items()): sample.value
        for family in where.collect()
        for sample in family.samples
    }
    for gauge in (names.health_gauge, names.heartbeat_age_gauge):
        for family in gauge.collect():
            assert family.samples
            for sample in family.samples:
                value = ours[sample.name, *sample.labels.items()]
                assert math.isclose(value, sample.value, abs_tol=5)


# --- several processes and threads


MULTIPROCESS = """
import os, sys
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.prometheus import HealthCollector
where = CollectorRegistry()
MultiProcessCollector(where)
Counter("requests", "of the application").inc()
registry = HealthRegistry()
HealthCollector(registry, where)
registry.register("of the parent", lambda: True)
registry.report_sync()
child = os.fork()
if not child:
    Counter("more_requests", "of the child").inc()
    registry.register("of the child", lambda: False)
    registry.report_sync()
    generate_latest(where)
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
print(generate_latest(where).decode())
"""


def test_in_multi_process_mode_it_is_the_process_that_answers_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MULTIPROCESS],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    families = {family.name: family for family in text_string_to_metric_families(done.stdout)}
    # Those of the application are of all processes, also of one that was killed.
    assert {"requests", "more_requests"} <= families.keys()
    up = families["cqrs_health_component_up"].samples
    assert [sample.labels["component"] for sample in up] == ["of the parent"]
    for name in NAMES:
        assert "the one process that answers" in families[name].documentation


def test_elsewhere_nothing_is_said_of_processes() -> None:
    assert "process" not in text(HealthRegistry(settings=HealthSettings()))


async def test_many_scrapes_at_once_while_checks_come_and_go() -> None:
    it = scraped()
    stop = threading.Event()
    bodies: list[bytes] = []

    def scrape() -> None:
        while not stop.is_set():
            bodies.append(generate_latest(it.collectors))

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        it.health.register(f"check {number % 7}", FakeCheck())
        it.health.heartbeat(f"worker {number % 5}", instance=str(number))
        await it.health.report()
        if number % 3 == 0:
            it.health.unregister(f"check {number % 7}")
    stop.set()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    assert len(bodies) >= 3
    for body in (bodies[0], bodies[-1]):
        assert len(list(text_string_to_metric_families(body.decode()))) == len(NAMES)
