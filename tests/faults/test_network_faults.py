"""Networks and servers that do one thing wrong, and a start without any: rows 8 and 26."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from cqrs_ddd_health import DatabaseHealthCheck, HealthRegistry, RedisHealthCheck
from cqrs_ddd_health.checks import Check
from tests.asking import row_of
from tests.clients import async_redis, sync_redis
from tests.fault_servers import Blackhole, DripServer, FaultProxy, GarbageServer, ResetServer
from tests.faults.figures import SLACK, Record, oversleeping, p99
from tests.processes import LOCALHOST, free_port, wait_until
from tests.servers import OwnPostgres, OwnRedis
from tests.service import Service, bare_environment

TIMEOUT_SECONDS = 0.2
ANSWER_EXCESS_SECONDS = 0.050
ROUNDS = 5


@contextmanager
def unanswered_syn(port: int) -> Generator[None]:
    """A listener whose queue is full: who connects waits for an answer to its first packet."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOCALHOST, port))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((LOCALHOST, port))
        try:
            yield
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def on_port(
    server: Blackhole | ResetServer | DripServer | GarbageServer, port: int
) -> Generator[None]:
    server.port = port
    with server:
        yield


FAULTS: dict[str, Callable[[int], AbstractContextManager[None]]] = {
    "connect is never answered": unanswered_syn,
    "accepts and never answers": lambda port: on_port(Blackhole(), port),
    "one byte a second": lambda port: on_port(DripServer(), port),
    "one byte of its protocol at a time": lambda port: on_port(
        DripServer(b"+PONG\r\n" * 100, 0.05), port
    ),
    "resets": lambda port: on_port(ResetServer(), port),
    "garbage": lambda port: on_port(GarbageServer(), port),
}


@asynccontextmanager
async def checked(port: int) -> AsyncGenerator[HealthRegistry]:
    """A registry whose checks go to that port with four clients, and one that needs no network."""
    database = f"postgres@{LOCALHOST}:{port}/postgres"
    asyncpg = create_async_engine(f"postgresql+asyncpg://{database}?ssl=disable")
    psycopg = create_engine(f"postgresql+psycopg://{database}", connect_args={"connect_timeout": 2})
    registry = HealthRegistry()
    async with async_redis(port) as client:
        with sync_redis(port, socket_timeout=1, socket_connect_timeout=1) as sync_client:
            checks: dict[str, Check] = {
                "redis async": RedisHealthCheck(client),
                "redis sync": RedisHealthCheck(sync_client),
                "asyncpg": DatabaseHealthCheck(async_sessionmaker(asyncpg)),
                "psycopg": DatabaseHealthCheck(sessionmaker(psycopg)),
            }
            for name, check in checks.items():
                registry.register(name, check, timeout_seconds=TIMEOUT_SECONDS)
            registry.register("innocent", lambda: True)
            yield registry
            await ended(registry)
    await asyncpg.dispose()
    psycopg.dispose()


async def ended(registry: HealthRegistry) -> None:
    async with asyncio.timeout(20):
        while registry.hung_checks:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_total_deadline_whatever_a_server_does(record: Record, fault: str) -> None:
    """Row 8. No number of small signs of life prolongs a check's time.

    Red when `Runner._timer` calls `call_later(delay + 1, ...)`.
    """
    port = free_port()
    control = await oversleeping(TIMEOUT_SECONDS, ROUNDS)
    late: list[float] = []
    with FAULTS[fault](port):
        async with checked(port) as registry:
            for _ in range(ROUNDS):
                began = time.perf_counter()
                states = await registry.check_all()
                late.append(time.perf_counter() - began - TIMEOUT_SECONDS)
                assert states.pop("innocent") == "up"
                assert set(states.values()) == {"down"}
    excess = max(p99(late) - control, 0.0)
    record(8, f"{fault}: p99 of the answer over timeout and control", excess * 1e3, "ms")
    assert excess < SLACK * ANSWER_EXCESS_SECONDS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_the_next_run_is_fine(
    own_redis: OwnRedis, own_postgres: OwnPostgres, fault: str, kind: str
) -> None:
    """Row 8. Once a healthy server listens there, the same clients find it well.

    Red when `Runner.release` leaves the slot to the flight that has ended.
    """
    port = free_port()
    names = {"redis": {"redis async", "redis sync"}, "postgres": {"asyncpg", "psycopg"}}[kind]
    healthy = FaultProxy(own_redis.port if kind == "redis" else own_postgres.port)
    healthy.port = port
    async with checked(port) as registry:
        with FAULTS[fault](port):
            assert {(await row_of(registry, name)).state for name in names} == {"down"}
            await ended(registry)
        for name in set(registry.names) - names:
            registry.unregister(name)
        with healthy:
            await registry.report()  # at most one run is spent on a connection of before
            assert {(await row_of(registry, name)).state for name in names} == {"up"}


APPLICATION = """
import os
import redis, redis.asyncio
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from cqrs_ddd_health import CheckOptions, DatabaseHealthCheck, HealthRegistry, RedisHealthCheck

often = CheckOptions(interval_seconds=1, down_interval_seconds=1)
registry = HealthRegistry()
port, database = int(os.environ["REDIS"]), os.environ["POSTGRES"]
engine = create_async_engine(database.replace("://", "+asyncpg://"))
sync_engine = create_engine(database.replace("://", "+psycopg://"))
registry.register("redis", RedisHealthCheck(redis.asyncio.Redis(port=port)), options=often)
registry.register("sync redis", RedisHealthCheck(redis.Redis(port=port)), options=often)
registry.register("postgres", DatabaseHealthCheck(async_sessionmaker(engine)), options=often)
registry.register("sync postgres", DatabaseHealthCheck(sessionmaker(sync_engine)), options=often)
"""


def application(directory: Path, redis: OwnRedis, postgres: OwnPostgres) -> Service:
    """A service whose dependencies are these."""
    (directory / "app.py").write_text(APPLICATION)
    environment = bare_environment(directory, REDIS=str(redis.port), POSTGRES=postgres.url())
    return Service.of_cli(
        "--registry", "app:registry", environment=environment, directory=directory
    )


def test_a_service_starts_without_any_dependency(
    own_redis: OwnRedis, own_postgres: OwnPostgres, tmp_path: Path, record: Record
) -> None:
    """Row 26. It lives, is not ready, and becomes ready by itself once they are there.

    Red when `formats.ready` answers 200 whatever the body says.
    """
    own_redis.stop()
    own_postgres.stop()
    with application(tmp_path, own_redis, own_postgres) as service:
        assert service.get("/health/live").code == 200
        answer = service.get("/health/ready")
        assert answer.code == 503
        assert set(answer.json["components"].values()) == {"down"}
        own_redis.start()
        own_postgres.start()
        began = time.perf_counter()
        assert wait_until(lambda: service.get("/health/ready").code == 200)
        record(26, "ready after the dependencies are there", time.perf_counter() - began, "s")


LIVE_SECONDS = 0.020
PROBES = 500


def test_live_answers_while_every_dependency_is_frozen(
    own_redis: OwnRedis, own_postgres: OwnPostgres, tmp_path: Path, record: Record
) -> None:
    """Row 1. Liveness waits for nothing that does not gate it.

    Red when `_ROUTES["/live"]` asks for the probe `None`, which is every check.
    """
    with application(tmp_path, own_redis, own_postgres) as service:
        assert wait_until(lambda: service.get("/health/ready").code == 200)
        timed_probes(service.port, PROBES // 5)  # until it is warm
        control = p99(timed_probes(service.port, PROBES))
        own_redis.freeze()
        own_postgres.freeze()
        assert wait_until(lambda: service.get("/health/ready").code == 503)
        seconds = p99(timed_probes(service.port, PROBES))
        own_redis.thaw()
        own_postgres.thaw()
        assert wait_until(lambda: service.get("/health/ready").code == 200)
    record(1, "live, nothing frozen: p99 (control)", control * 1e3, "ms")
    record(1, "live, every dependency frozen: p99", seconds * 1e3, "ms")
    assert seconds - control < SLACK * LIVE_SECONDS


def timed_probes(port: int, times: int) -> list[float]:
    """How long /health/live takes, each time on a new connection as an orchestrator has it."""
    question = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    seconds: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        with socket.create_connection((LOCALHOST, port), 5) as connection:
            connection.sendall(question)
            answer = connection.recv(4096)
        seconds.append(time.perf_counter() - began)
        assert answer.startswith(b"HTTP/1.1 200"), os.fsdecode(answer)
    return seconds
