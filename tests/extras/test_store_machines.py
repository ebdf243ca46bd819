"""The stores of databases and of Redis against the model of a store."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import func, update

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.stores.redis import RedisHeartbeatStore
from cqrs_ddd_health.heartbeats.stores.sql.statements import TABLE
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore
from tests.clients import aged, async_redis
from tests.heartbeat_machine import Age, machine_of
from tests.servers import OwnRedis, SharedServer, shared_servers

DRIVERS = {"postgresql": "asyncpg", "mariadb": "aiomysql"}
SETTINGS = settings(
    max_examples=8,
    stateful_step_count=15,
    report_multiple_bugs=False,
    database=None,
)


@pytest.mark.parametrize("server", shared_servers(*DRIVERS), ids=lambda server: server.name)
def test_databases(server: SharedServer) -> None:
    url = server.url_for(DRIVERS[server.name])

    async def make() -> tuple[HeartbeatStore, Age]:
        store, namespace = sql_store(url)

        async def age(seconds: float) -> None:
            # On MariaDB names are kept as bytes.
            in_bytes = func.unhex(namespace.encode().hex())
            ours = TABLE.c.namespace == (in_bytes if server.name == "mariadb" else namespace)
            async with store._transaction() as connection:
                older = update(TABLE).values(stamp=TABLE.c.stamp - seconds)
                await connection.execute(older.where(ours))

        return store, age

    run_state_machine_as_test(machine_of(make), settings=SETTINGS)


def sql_store(url: str) -> tuple[SqlHeartbeatStore, str]:
    namespace = f"test-{uuid4()}"
    return SqlHeartbeatStore(url, namespace=namespace), namespace


def test_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ahead = time.clock_gettime, [0.0]

    def set_clock(which: int) -> float:
        return clock(which) + ahead[0]

    monkeypatch.setattr("time.clock_gettime", set_clock)

    async def make() -> tuple[HeartbeatStore, Age]:
        ahead[0] = 1e6  # so that it can be set back
        store, _ = sql_store(f"sqlite+aiosqlite:///{tmp_path / str(uuid4())}")

        async def age(seconds: float) -> None:
            ahead[0] += seconds

        return store, age

    run_state_machine_as_test(machine_of(make), settings=SETTINGS)


def test_redis(own_redis: OwnRedis) -> None:
    async def make() -> tuple[HeartbeatStore, Age]:
        store = RedisHeartbeatStore(own_redis.url, namespace=f"test-{uuid4()}")

        async def age(seconds: float) -> None:
            async with async_redis(own_redis.port) as client:
                await aged(client, store._keys, seconds)

        return store, age

    run_state_machine_as_test(machine_of(make), settings=SETTINGS)
