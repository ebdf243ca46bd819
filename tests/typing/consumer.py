"""A strict codebase that uses every public name, and needs no ignore for it.

mypy and pyright read this file with all strictness; `assert_type` fails there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, assert_type

from pydantic.json_schema import JsonSchemaValue

from cqrs_ddd_health import (
    AlembicHealthCheck,
    BeatsRead,
    BlockingCallError,
    Check,
    CheckOptions,
    CheckResult,
    CheckSettings,
    Clock,
    ComponentStatus,
    DatabaseHealthCheck,
    DiskSpaceHealthCheck,
    DrainError,
    DuplicateNameError,
    EventLoopLagHealthCheck,
    Failure,
    HealthCheck,
    HealthError,
    HealthRegistry,
    HealthReport,
    HealthServer,
    HealthSettings,
    HeartbeatFile,
    HeartbeatRecord,
    HeartbeatStore,
    HttpHealthCheck,
    InvalidCheckError,
    InvalidNameError,
    InvalidOptionError,
    Listener,
    Measurements,
    MemoryHealthCheck,
    MemoryHeartbeatStore,
    MessageBrokerHealthCheck,
    OptionOrigin,
    PastResult,
    PoolSaturationHealthCheck,
    ReadyDict,
    RedisHealthCheck,
    ServerError,
    ServiceInfo,
    SettingsError,
    SigtermDrain,
    StatusDict,
    StoredBeat,
    TcpHealthCheck,
    Transition,
    UnknownNameError,
    UpDown,
    __version__,
    drain_on_sigterm,
    openapi,
    run_blocking,
)
from cqrs_ddd_health.testing import FakeCheck, FakeClock, HeartbeatStoreConformance, clean_registry
from cqrs_ddd_health.web.asgi import Authorizer, HealthApp, Scope, health_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from prometheus_client import CollectorRegistry
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

version: str = __version__

ERRORS: tuple[type[HealthError], ...] = (
    BlockingCallError,
    DrainError,
    DuplicateNameError,
    InvalidCheckError,
    InvalidNameError,
    InvalidOptionError,
    ServerError,
    SettingsError,
    UnknownNameError,
)


class Session:
    """A session of one's own."""

    async def execute(self, statement: object) -> object:
        return statement


@asynccontextmanager
async def session_factory() -> AsyncGenerator[Session]:
    yield Session()


@contextmanager
def sync_session_factory() -> Generator[Session]:
    yield Session()


class Client:
    """A client of one's own."""

    async def ping(self) -> bool:
        return True

    def is_connected(self) -> bool:
        return True


class Search:
    """A check that is typed all through."""

    timeout_seconds = 2.0

    async def check(self) -> CheckResult:
        hits = await run_blocking(lambda: 3)
        assert_type(hits, int)
        return CheckResult(state="degraded", details={"hits": hits}, message="few")


class Store:
    """A heartbeat store of one's own."""

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        for beat in beats:
            assert_type(beat.age_seconds, float)

    async def read(self) -> BeatsRead:
        beat = StoredBeat("outbox", "host", "token", 1, 0.5, 60.0, phase="busy", progress=1)
        return BeatsRead(0.0, [beat])

    async def retire(self, worker: str, instance: str, token: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class StoreTest(HeartbeatStoreConformance):
    """How others test their store."""

    async def make_store(self) -> HeartbeatStore:
        return Store()


def on_transition(transition: Transition) -> None:
    assert_type(transition.before, Literal["up", "degraded", "down"] | None)
    assert_type(transition.failure, Failure | None)


listener: Listener = on_transition
store: HeartbeatStore = MemoryHeartbeatStore()
clock: Clock = FakeClock()
typed: HealthCheck = Search()
anything: list[Check] = [typed, FakeCheck(), lambda: True, Client().ping]


def register(registry: HealthRegistry) -> None:
    database = registry.register("database", DatabaseHealthCheck(session_factory))
    assert_type(database, DatabaseHealthCheck)
    registry.register("replica", DatabaseHealthCheck(sync_session_factory), critical=False)
    registry.register("redis", RedisHealthCheck(Client()), tags={"cache"})
    registry.register("broker", MessageBrokerHealthCheck(Client()), replace=False)
    registry.register("disk", DiskSpaceHealthCheck("/", min_free_bytes=1e9))
    registry.register("memory", MemoryHealthCheck(min_available_bytes=200e6), critical=False)
    registry.register("loop", EventLoopLagHealthCheck(max_lag_seconds=0.1), critical=False)
    registry.register("tcp", TcpHealthCheck("localhost", 5432))
    registry.register("http", HttpHealthCheck("http://localhost", expect="200", headers={"a": "b"}))
    registry.register(
        "search", Search(), timeout_seconds=1, probes=["ready"], options=CheckOptions(critical=True)
    )

    @registry.register("decorated")
    def decorated() -> bool:
        return True

    assert_type(decorated(), bool)
    registry.unregister("decorated")
    registry.add_listener(listener)
    registry.remove_listener(listener)
    registry.heartbeat("outbox", timeout_seconds=600, instance="a", phase="busy", progress=3)
    registry.expect("outbox", min_instances=2, probes=(), critical=False, grace_seconds=10)
    registry.expect("saga", instances=3, stall_seconds=60)

    @registry.beats("outbox")
    def step(number: int) -> str:
        return str(number)

    assert_type(step(1), str)
    assert_type(registry.is_empty, bool)
    registry.retire("outbox", instance="a")
    registry.drain()
    assert_type(registry.names, tuple[str, ...])
    assert_type(registry.settings, HealthSettings)
    assert_type(registry.hung_checks, int)
    assert_type(registry.dropped_beats, int)
    assert_type(registry.draining, bool)
    assert_type(registry.transitions(), tuple[Transition, ...])
    for past in (*registry.history("database"), *registry.history("beats", kind="store")):
        assert_type(past, PastResult)
        assert_type(past.state, Literal["up", "degraded", "down"])
        assert_type(past.at, datetime)
        assert_type(past.latency_seconds, float)
    for origin in registry.origins("database").values():
        assert_type(origin, OptionOrigin)
        assert_type(origin.origin, str)
    measured = registry.measurements()
    assert_type(measured, Measurements)
    assert_type(measured.report, HealthReport)
    assert_type(measured.ready, bool)
    for runs in measured.runs.values():
        assert_type(runs.by_duration, tuple[int, ...])
        assert_type(runs.seconds, float)
    for counts in measured.instances.values():
        assert_type(counts["up"], int)


def register_engine(registry: HealthRegistry, engine: Engine, async_engine: AsyncEngine) -> None:
    registry.register("pool", PoolSaturationHealthCheck(engine, max_used=0.9))
    registry.register("async_pool", PoolSaturationHealthCheck(async_engine))
    registry.register("migrated", AlembicHealthCheck(engine, "migrations"))
    registry.register("async_migrated", AlembicHealthCheck(async_engine, "migrations"))


async def ask(registry: HealthRegistry) -> None:
    report = await registry.report(
        probe="ready", tags=("search",), max_age_seconds=1, deadline_seconds=0.8
    )
    assert_type(report, HealthReport)
    assert_type(report.status, Literal["healthy", "degraded", "unhealthy"])
    assert_type(report.components, tuple[ComponentStatus, ...])
    assert_type(report.heartbeats, tuple[HeartbeatRecord, ...])
    assert_type(report.service, ServiceInfo)
    assert_type(report.timestamp, datetime)
    row = report.component("database")
    assert_type(row, ComponentStatus | None)
    if row is not None:
        assert_type(row.state, Literal["up", "degraded", "down"])
        assert_type(row.latency_seconds, float | None)
        assert_type(row.failure, Failure | None)
        assert_type(row.measured(datetime.now(UTC), 0.1), ComponentStatus)
        assert_type({row}, set[ComponentStatus])
    for beat in report.heartbeats:
        assert_type(beat.age_seconds, float | None)
    assert_type(await registry.check_all(), dict[str, UpDown])
    status = await registry.status()
    assert_type(status, StatusDict)
    assert_type(status["status"], Literal["healthy", "unhealthy"])
    assert_type(status["heartbeats"], dict[str, str | None])
    ready: ReadyDict = {"ready": True, "components": {"database": "up"}}
    assert_type(ready["components"], dict[str, UpDown])
    assert_type(openapi("/health"), JsonSchemaValue)


def ask_sync() -> None:
    assert_type(HealthRegistry.get_instance(), HealthRegistry)
    HealthRegistry.set_instance(HealthRegistry(30, settings=HealthSettings.from_environment()))
    HealthRegistry(settings=HealthSettings(checks={"search": CheckSettings(enabled=False)}))
    with clean_registry() as registry:
        assert_type(registry, HealthRegistry)
        assert_type(registry.report_sync(), HealthReport)
        assert_type(health_app(registry), HealthApp)


def lets_in(scope: Scope) -> bool:
    return scope.get("user") == "operator"


async def lets_in_later(scope: Scope) -> bool:
    return lets_in(scope)


def authorize(registry: HealthRegistry) -> None:
    either: tuple[Authorizer, ...] = (lets_in, lets_in_later, lambda scope: "user" in scope)
    for authorizer in either:
        assert_type(health_app(registry, prefix="", authorizer=authorizer), HealthApp)
    HealthServer(registry, authorizer=lets_in_later)
    assert_type(registry.tags, frozenset[str])


def serve_sync(registry: HealthRegistry) -> None:
    with HealthServer(registry, port=0) as server:
        assert_type(server, HealthServer)
        assert_type(server.url, str)
        assert_type(server.port, int)
    HeartbeatFile("/run/worker.beat").beat()


def collect(registry: HealthRegistry, collectors: CollectorRegistry) -> None:
    from cqrs_ddd_health.prometheus import HealthCollector, MetricsServer, start_metrics_server

    collectors.register(HealthCollector(registry))
    assert_type(HealthCollector(registry, collectors).registry, HealthRegistry)
    with start_metrics_server(registry, 9000, collector_registry=collectors) as server:
        assert_type(server, MetricsServer)
        assert_type(server.url, str)
    server.close()


async def serve(registry: HealthRegistry) -> None:
    async with HealthServer(registry, "127.0.0.1", 0) as server:
        assert_type(server, HealthServer)
        with drain_on_sigterm(registry, delay_seconds=5) as drain:
            assert_type(drain, SigtermDrain)
    drain_on_sigterm(registry).close()


everything: tuple[Callable[..., object], ...] = (
    register,
    register_engine,
    ask,
    ask_sync,
    lets_in,
    lets_in_later,
    authorize,
    serve_sync,
    collect,
    serve,
)
