"""PostgreSQL that freezes in mid-SELECT, and what timeouts do to a pool: rows 5 to 7."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import AsyncAdaptedQueuePool

from cqrs_ddd_health import DatabaseHealthCheck, HealthRegistry
from tests.asking import asked, failure_of, kinds_of, registry_of, row_of
from tests.fault_servers import FaultProxy
from tests.faults.figures import SLACK, Record, oversleeping
from tests.processes import LOCALHOST
from tests.servers import OwnPostgres

TIMEOUT_SECONDS = 0.3
ANSWER_EXCESS_SECONDS = 0.050
CLOSE_SECONDS = 15.0
"""Psycopg gives itself twice 5 s to cancel a statement, SQLAlchemy 2 s to close an asyncpg one."""
POOL_SIZE = 3


async def ended(registry: HealthRegistry) -> float:
    """How many seconds pass until everything that was cut off has ended."""
    began = time.perf_counter()
    async with asyncio.timeout(30):
        while registry.hung_checks:
            await asyncio.sleep(0.005)
    return time.perf_counter() - began


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_postgres_frozen_in_mid_select_is_answered_and_closed_in_bounded_time(
    own_postgres: OwnPostgres, record: Record, driver: str
) -> None:
    """Row 5. The connection is closed while the server is still frozen, and the pool is whole.

    Red when `Runner._timer` calls `call_later(delay + 1, ...)`, or when `_cut_off` does not cancel.
    """
    engine = create_async_engine(own_postgres.url(driver), pool_size=POOL_SIZE, max_overflow=0)
    check = DatabaseHealthCheck(async_sessionmaker(engine))
    assert (await asked(check)).state == "up"
    registry = registry_of(check, timeout_seconds=TIMEOUT_SECONDS)
    control = await oversleeping(TIMEOUT_SECONDS, 3)
    own_postgres.freeze()
    began = time.perf_counter()
    row = await row_of(registry)
    excess = time.perf_counter() - began - TIMEOUT_SECONDS - control
    closing = await ended(registry)
    own_postgres.thaw()
    record(5, f"PostgreSQL frozen, {driver}: answer over timeout and control", excess * 1e3, "ms")
    record(5, f"PostgreSQL frozen, {driver}: connection closed after", closing * 1e3, "ms")
    assert failure_of(row) == ("timeout", None)
    assert excess < SLACK * ANSWER_EXCESS_SECONDS
    assert closing < CLOSE_SECONDS
    assert [(await row_of(registry)).state for _ in range(POOL_SIZE + 1)] == ["up"] * 4
    assert checked_out(engine) == 0
    await engine.dispose()


async def test_a_frozen_postgres_occupies_one_thread_of_a_blocking_driver(
    own_postgres: OwnPostgres, record: Record
) -> None:
    """Row 5. The thread cannot be cut off; it is not joined by a second one.

    Red when `Flight.hold` does nothing.
    """
    engine = create_engine(own_postgres.url("psycopg"), pool_size=POOL_SIZE, max_overflow=0)
    check = DatabaseHealthCheck(sessionmaker(engine))
    assert (await asked(check)).state == "up"
    registry = registry_of(check, timeout_seconds=TIMEOUT_SECONDS)
    own_postgres.freeze()
    assert await kinds_of(registry, 4) == ["timeout", "hung", "hung", "hung"]
    assert registry.hung_checks == 1
    own_postgres.thaw()
    record(5, "PostgreSQL thawed: blocked thread ended after", await ended(registry) * 1e3, "ms")
    assert (await row_of(registry)).state == "up"
    engine.dispose()


def checked_out(engine: AsyncEngine) -> int:
    """How many connections of the pool are in use."""
    pool = engine.sync_engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    return pool.checkedout()


@pytest.fixture
async def engine(own_postgres: OwnPostgres) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(
        own_postgres.url("asyncpg"), pool_size=POOL_SIZE, max_overflow=0, pool_timeout=30
    )
    yield engine
    await engine.dispose()


async def test_an_exhausted_pool_is_a_timeout_and_its_holders_are_unharmed(
    engine: AsyncEngine, record: Record
) -> None:
    """Row 6. The check waits in the pool's queue like everyone, and leaves it in time.

    Red when `_cut_off` does not cancel the task: it then takes a connection once one is free.
    """
    holders = [await engine.connect() for _ in range(POOL_SIZE)]
    for number, holder in enumerate(holders):
        await holder.execute(text(f"CREATE TEMPORARY TABLE held AS SELECT {number} AS number"))
    before = checked_out(engine)
    registry = registry_of(DatabaseHealthCheck(async_sessionmaker(engine)), timeout_seconds=0.05)
    for _ in range(20):
        assert failure_of(await row_of(registry)) == ("timeout", None)
        await ended(registry)
    after = checked_out(engine)
    record(6, "pool exhausted: connections in use before", before, "connections")
    record(6, "pool exhausted: connections in use after", after, "connections")
    assert before == after == POOL_SIZE
    for number, holder in enumerate(holders):
        assert (await holder.execute(text("SELECT number FROM held"))).scalar_one() == number
        await holder.close()
    assert checked_out(engine) == 0
    registry.register("it", DatabaseHealthCheck(async_sessionmaker(engine)), timeout_seconds=5)
    assert (await row_of(registry)).state == "up"


TIMEOUTS = 1_000
CHECKS = 5
DELAY_SECONDS = 0.002


async def client_backends(server: OwnPostgres) -> int:
    """How many connections the server holds for others than the one that asks."""
    engine = create_async_engine(server.url("asyncpg"))
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    async with engine.connect() as connection:
        count = int((await connection.execute(text(query))).scalar_one())
    await engine.dispose()
    return count


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_thousand_timeouts_leave_no_more_connections_than_the_pool_may_hold(
    own_postgres: OwnPostgres, record: Record, driver: str
) -> None:
    """Row 7. Cut off at every stage: in connecting, in SELECT, in closing.

    Red when `DatabaseHealthCheck` enters the session and never leaves it: `await __aenter__()`.
    """
    with FaultProxy(own_postgres.port) as proxy:
        url = f"postgresql+{driver}://postgres@{LOCALHOST}:{proxy.port}/postgres"
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        check = DatabaseHealthCheck(async_sessionmaker(engine))
        assert (await asked(check)).state == "up"
        proxy.delay(DELAY_SECONDS, "to_client")
        await asyncio.gather(*(time_out(check, TIMEOUTS // CHECKS, at) for at in range(CHECKS)))
        proxy.pass_through()
        assert checked_out(engine) == 0
        left = await settled_backends(own_postgres)
        assert (await asked(check)).state == "up"
        record(7, f"connections left by {TIMEOUTS} timeouts, {driver}", left, "connections")
        assert left <= POOL_SIZE
        await engine.dispose()


async def time_out(check: DatabaseHealthCheck, times: int, number: int) -> None:
    """Have the check cut off so many times."""
    chance = random.Random(number)
    done = 0
    while done < times:
        registry = registry_of(check, timeout_seconds=chance.uniform(0.0002, 8 * DELAY_SECONDS))
        row = await row_of(registry)
        done += row.state == "down"
        await ended(registry)


async def settled_backends(server: OwnPostgres) -> int:
    """The count once the server has noticed who has left."""
    for _ in range(100):
        if await client_backends(server) <= POOL_SIZE:
            break
        await asyncio.sleep(0.05)
    return await client_backends(server)
