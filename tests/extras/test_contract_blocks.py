"""Every Python block of the contract runs unchanged and does what it says.

`tests/contract/blocks.md` holds the blocks, each under its heading. Each has one checker here,
which hands it the names that it takes for granted and nothing else. That a checker can fail is
shown by a change to its block that it must notice.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeAlias
from wsgiref.simple_server import WSGIServer

import httpx
import prometheus_client
import pytest
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY

from cqrs_ddd_health import DatabaseHealthCheck, HealthRegistry
from tests.contract.stage import NOON, Stage, stage_in
from tests.documents import Block, python_blocks
from tests.given import (
    Broker,
    ConnectedBroker,
    Disk,
    Elasticsearch,
    HookRegistry,
    Internet,
)
from tests.servers import OwnRedis

BLOCKS = python_blocks(Path(__file__).parents[1] / "contract" / "blocks.md")
SHA256 = "dd6774b2a280e32c8f027a6ff2f45ae7745da92605a1b1bdfd24396698327e46"

Checker: TypeAlias = Callable[[Stage, Block], Awaitable[None]]
CHECKERS: dict[int, Checker] = {}
CHANGES: dict[int, tuple[str, str]] = {}


def checks(index: int, heading: str, change: tuple[str, str]) -> Callable[[Checker], Checker]:
    """Register the checker of one block, and a change to the block that must not pass it."""

    def add(checker: Checker) -> Checker:
        assert index not in CHECKERS
        assert BLOCKS[index].heading == heading
        CHECKERS[index], CHANGES[index] = checker, change
        return checker

    return add


@pytest.fixture
async def stage(tmp_path: Path, own_redis: OwnRedis) -> AsyncIterator[Stage]:
    async with stage_in(tmp_path, own_redis) as stage:
        yield stage


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_the_block_does_what_it_says(stage: Stage, block: Block) -> None:
    assert block.index in CHECKERS, f"nobody checks {block.path}:{block.line}"
    await CHECKERS[block.index](stage, block)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_a_block_that_says_something_else_does_not_pass(stage: Stage, block: Block) -> None:
    old, new = CHANGES[block.index]
    assert old in block.source
    changed = replace(block, source=block.source.replace(old, new))
    with pytest.raises(AssertionError):
        await CHECKERS[block.index](stage, changed)


def test_every_block_has_one_checker() -> None:
    assert sorted(CHECKERS) == [block.index for block in BLOCKS] == list(range(14))


def test_the_blocks_are_the_contracts_byte_for_byte() -> None:
    sources = "\n".join(block.source for block in BLOCKS)
    assert hashlib.sha256(sources.encode()).hexdigest() == SHA256


# --- registry


@checks(0, "Quick Start", ('"redis", ', '"cache", '))
async def quick_start(stage: Stage, block: Block) -> None:
    names = await stage.run(block, session_factory=stage.sessions, redis_client=stage.redis_client)
    components, report = block.shown()
    assert names.health is stage.health
    assert names.status == components
    assert names.report == report
    assert list(names.report) == list(report)


@checks(1, "Registration", ("status_code == 200", "status_code < 600"))
async def registration(stage: Stage, block: Block) -> None:
    disk, internet = Disk(free=1_000_000_001), Internet()
    await stage.run(
        block,
        DatabaseHealthCheck=DatabaseHealthCheck,
        session_factory=stage.sessions,
        shutil=disk,
        httpx=internet.module,
    )
    up = {"database": "up", "disk_space": "up", "external_api": "up"}
    assert await stage.health.check_all() == up
    assert disk.asked == ["/"]
    (request,) = internet.requests
    assert str(request.url) == "https://api.example.com/health"
    assert set(request.extensions["timeout"].values()) == {5}
    disk.free = 1_000_000_000
    assert await stage.health.check_all() == {**up, "disk_space": "down"}
    for answer in (503, httpx.ConnectTimeout("too slow")):
        internet.answer = answer
        assert (await stage.health.check_all())["external_api"] == "down"


@checks(2, "Running Checks", ('"redis": "down"', '"redis": "up"'))
async def running_checks(stage: Stage, block: Block) -> None:
    health = stage.health
    await stage.run(BLOCKS[0], session_factory=stage.sessions, redis_client=stage.redis_client)
    health.register("disk_space", lambda: True)
    stage.clock.advance(-10)
    health.heartbeat("saga_recovery")
    stage.clock.advance(5)
    health.heartbeat("outbox_worker")
    stage.clock.advance(5)
    stage.redis.stop()
    names = await stage.run(block, health=health)
    components, report = block.shown()
    # The comments leave out what the contract says elsewhere: workers are components too.
    workers = dict.fromkeys(report["heartbeats"], "up")
    assert names.components == {**components, **workers}
    assert names.report == {**report, "components": {**report["components"], **workers}}


@checks(3, "Worker Heartbeats", ("my_worker", "another_worker"))
async def worker_heartbeats(stage: Stage, block: Block) -> None:
    names = await stage.run(block, HealthRegistry=HealthRegistry)
    assert names.health is stage.health
    worker = names.MyWorker()
    assert await stage.health.check_all() == {}
    await worker._process_cycle()
    assert await stage.health.check_all() == {"my_worker": "up"}
    stage.clock.advance(60)
    assert await stage.health.check_all() == {"my_worker": "up"}
    stage.clock.advance(0.001)
    assert await stage.health.check_all() == {"my_worker": "down"}
    await worker._process_cycle()
    assert await stage.health.check_all() == {"my_worker": "up"}


@checks(4, "Worker Heartbeats", ("=30", "=31"))
async def worker_timeout(stage: Stage, block: Block) -> None:
    names = await stage.run(
        block, HealthRegistry=functools.partial(HealthRegistry, clock=stage.clock)
    )
    names.health.heartbeat("my_worker")
    stage.clock.advance(30)
    assert await names.health.check_all() == {"my_worker": "up"}
    stage.clock.advance(0.001)
    assert await names.health.check_all() == {"my_worker": "down"}


@checks(5, "Worker Heartbeats", ('"my_worker": "down"', '"my_worker": "up"'))
async def worker_in_check_all(stage: Stage, block: Block) -> None:
    stage.health.register("database", DatabaseHealthCheck(stage.sessions))
    stage.health.heartbeat("my_worker")
    recent, silent = block.shown()
    assert (await stage.run(block, health=stage.health)).status == recent
    stage.clock.advance(61)
    assert (await stage.run(block, health=stage.health)).status == silent
    assert (await stage.health.status())["components"] == silent


# --- built-in checks


class PlainSession:
    """Not SQLAlchemy's: it takes the statement as a string."""

    def __init__(self, statements: list[str]) -> None:
        self._statements = statements

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def execute(self, statement: str) -> None:
        self._statements.append(statement)


@checks(6, "DatabaseHealthCheck", ('register("database"', 'register("db"'))
async def database_check(stage: Stage, block: Block) -> None:
    statements: list[str] = []
    plain = functools.partial(PlainSession, statements)
    for factory, state in ((stage.sessions, "up"), (plain, "up"), (stage.no_sessions, "down")):
        names = await stage.run(block, session_factory=factory, health=stage.health)
        assert await names.db_check() is (state == "up")
        assert await stage.health.check_all() == {"database": state}
    assert statements == ["SELECT 1"] * 2


@checks(7, "RedisHealthCheck", ('register("redis"', 'register("cache"'))
async def redis_check(stage: Stage, block: Block) -> None:
    names = await stage.run(block, redis_client=stage.redis_client, health=stage.health)
    assert await names.redis_check() is True
    assert await stage.health.check_all() == {"redis": "up"}
    stage.redis.stop()
    assert await names.redis_check() is False
    assert await stage.health.check_all() == {"redis": "down"}


@checks(8, "MessageBrokerHealthCheck", ("(broker_client)", "(type(broker_client)())"))
async def broker_check(stage: Stage, block: Block) -> None:
    clients = {
        Broker(healthy=True, connected=False): "up",
        Broker(healthy=False, connected=True): "down",
        ConnectedBroker(connected=True): "up",
        ConnectedBroker(connected=False): "down",
    }
    for client, state in clients.items():
        names = await stage.run(block, broker_client=client, health=stage.health)
        assert await names.broker_check() is (state == "up")
        assert await stage.health.check_all() == {"message_broker": state}


@checks(9, "Writing Custom Health Checks", ("return False", "return True"))
async def custom_checks(stage: Stage, block: Block) -> None:
    client = Elasticsearch()
    names = await stage.run(block, es_client=client, health=stage.health)
    up = {"elasticsearch": "up", "temp_dir": "up"}
    assert names.check_temp_dir() is True
    assert await stage.health.check_all() == up
    client.answer = False
    assert await stage.health.check_all() == {**up, "elasticsearch": "down"}
    client.answer = ConnectionError("refused")
    assert await names.ElasticsearchHealthCheck(client)() is False
    report = await stage.health.report()
    row = report.component("elasticsearch")
    assert row is not None
    assert row.failure is not None
    assert row.failure.kind == "falsy"  # the block swallows the exception itself


# --- HTTP


@checks(10, "FastAPI", ("else 503", "else 500"))
async def fastapi_endpoints(stage: Stage, block: Block) -> None:
    health = stage.health
    names = await stage.run(block, JSONResponse=JSONResponse)
    transport = httpx.ASGITransport(app=names.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

        async def ask(path: str) -> tuple[int, Any]:
            response = await client.get(path)
            assert response.headers["content-type"] == "application/json"
            return response.status_code, response.json()

        def status(status: str, **components: str) -> dict[str, Any]:
            heartbeats = {"worker": NOON.isoformat()} if "worker" in components else {}
            return {
                "status": status,
                "components": components,
                "timestamp": stage.clock.now().isoformat(),
                "heartbeats": heartbeats,
            }

        assert await ask("/health") == (200, status("healthy"))
        assert await ask("/health/ready") == (200, {"ready": True, "components": {}})
        health.register("database", DatabaseHealthCheck(stage.sessions))
        health.heartbeat("worker")
        up = {"database": "up", "worker": "up"}
        assert await ask("/health") == (200, status("healthy", **up))
        assert await ask("/health/ready") == (200, {"ready": True, "components": up})
        stage.clock.advance(61)
        silent = {"database": "up", "worker": "down"}
        assert await ask("/health") == (503, status("unhealthy", **silent))
        assert await ask("/health/ready") == (503, {"ready": False, "components": silent})
        health.retire("worker")
        health.register("database", DatabaseHealthCheck(stage.no_sessions))
        down = {"database": "down"}
        assert await ask("/health") == (503, status("unhealthy", **down))
        assert await ask("/health/ready") == (503, {"ready": False, "components": down})
        assert await ask("/health/live") == (200, {"status": "alive"})


# --- observability


@checks(11, "Integration with Observability", ("*.worker.*", "*.job.*"))
async def observability_hook(stage: Stage, block: Block) -> None:
    hooks = HookRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cqrs_ddd_core", hooks.module())
        await stage.run(block)

    async def handler() -> str:
        return "handled"

    async def broken() -> str:
        raise ConnectionError("refused")

    for operation in ("scheduler.job.process", "outbox.worker.process"):
        assert await hooks.run(operation, handler) == "handled"
    with pytest.raises(ConnectionError):
        await hooks.run("scheduler.worker.process", broken)
    assert await stage.health.check_all() == {}
    assert await hooks.run("scheduler.worker.process", handler) == "handled"
    assert await stage.health.check_all() == {"scheduler_worker": "up"}
    stage.clock.advance(61)
    assert await stage.health.check_all() == {"scheduler_worker": "down"}


GAUGES = "Step 1: Expose Health as Prometheus Metrics"


@checks(12, GAUGES, ('1 if status == "up" else 0', "1"))
async def prometheus_gauges(stage: Stage, block: Block) -> None:
    def component_up(name: str) -> float | None:
        return REGISTRY.get_sample_value("cqrs_health_component_up", {"component": name})

    def age(worker: str) -> float | None:
        return REGISTRY.get_sample_value("cqrs_health_heartbeat_age_seconds", {"worker": worker})

    stage.clock.jump(
        (datetime.now(UTC) - NOON).total_seconds() - 90
    )  # the block reads the real one
    health = stage.health
    names = await stage.run(block, datetime=sys.modules["datetime"])
    health.register("database", DatabaseHealthCheck(stage.sessions))
    health.register("redis", lambda: False)
    health.expect("never_seen")
    health.heartbeat("silent_worker")
    stage.clock.advance(90)
    health.heartbeat("worker")
    await names.refresh_health_metrics()
    assert [component_up(name) for name in ("database", "redis")] == [1, 0]
    assert [component_up(name) for name in ("worker", "silent_worker", "never_seen")] == [1, 0, 0]
    late = (datetime.now(UTC) - stage.clock.now()) / timedelta(seconds=1)
    for worker, beaten in (("worker", 0), ("silent_worker", 90)):
        measured = age(worker)
        assert measured is not None
        assert beaten <= measured <= beaten + late
    assert age("never_seen") is None
    health.register("redis", lambda: True)
    await names.refresh_health_metrics()
    assert component_up("redis") == 1


@checks(13, GAUGES, ("9000", "9001"))
async def prometheus_server(stage: Stage, block: Block) -> None:
    ports: list[int] = []
    running: list[tuple[WSGIServer, threading.Thread]] = []

    def start_http_server(port: int) -> None:
        ports.append(port)
        running.append(prometheus_client.start_http_server(0, addr="127.0.0.1"))

    gauges = await stage.run(BLOCKS[12], datetime=sys.modules["datetime"])
    stage.health.register("database", DatabaseHealthCheck(stage.sessions))
    await gauges.refresh_health_metrics()
    await stage.run(block, start_http_server=start_http_server)
    ((server, thread),) = running
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            scrape = await client.get(f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert ports == [9000]
    assert 'cqrs_health_component_up{component="database"} 1.0' in scrape.text.splitlines()
