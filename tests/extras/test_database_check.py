"""DatabaseHealthCheck with the sessions that applications have, on real databases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from cqrs_ddd_health import ComponentStatus, DatabaseHealthCheck, InvalidOptionError
from cqrs_ddd_health.checks.connected import ConnectedCheck
from cqrs_ddd_health.checks.from_url import check_from_url
from tests.asking import asked, asked_at, failure_of, registry_of, row_of
from tests.fault_servers import FaultProxy
from tests.servers import OwnPostgres, SharedServer, shared_servers

SYNC_DRIVERS = {"postgresql": ("psycopg",)}
ASYNC_DRIVERS = {"postgresql": ("asyncpg", "psycopg"), "mariadb": ("aiomysql",)}

SHARED_ASYNC = [
    pytest.param(server, driver, id=f"{server.name}-{driver}")
    for server in shared_servers("postgresql", "mariadb")
    for driver in ASYNC_DRIVERS[server.name]
]


class AuditedSession(AsyncSession):
    """A session as applications subclass it."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.sqlite3"


@pytest.fixture
async def sqlite(file: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    yield engine
    await engine.dispose()


@pytest.fixture
def sync_sqlite(file: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{file}")
    yield engine
    engine.dispose()


@pytest.fixture
async def postgres(own_postgres: OwnPostgres) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(own_postgres.url("asyncpg"), pool_size=3, max_overflow=0)
    yield engine
    await engine.dispose()


async def test_an_async_sessionmaker_on_sqlite_is_up_and_tells_of_its_database(
    sqlite: AsyncEngine,
) -> None:
    row = await asked(DatabaseHealthCheck(async_sessionmaker(sqlite)))
    assert row.state == "up"
    assert row.details["dialect"] == "sqlite"
    assert row.details["driver"] == "aiosqlite"
    assert str(row.details["server_version"]).startswith("3.")


async def test_a_sessionmaker_on_sqlite_is_up(sync_sqlite: Engine) -> None:
    row = await asked(DatabaseHealthCheck(sessionmaker(sync_sqlite)))
    assert (row.state, row.details["driver"]) == ("up", "pysqlite")


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
async def test_a_sqlite_file_that_is_no_database_is_down(file: Path, driver: str) -> None:
    file.write_bytes(b"not a database at all" * 100)
    url = f"sqlite+{driver}:///{file}"
    engine = create_async_engine(url) if driver == "aiosqlite" else create_engine(url)
    row = await asked(DatabaseHealthCheck(engine.connect))
    assert row.failure is not None
    assert (row.state, row.failure.exception_type) == ("down", "DatabaseError")
    await engine.dispose() if isinstance(engine, AsyncEngine) else engine.dispose()


async def test_a_pool_that_counts_nothing_has_no_numbers(file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    row = await asked(DatabaseHealthCheck(sessionmaker(engine)))
    assert (row.state, row.details["pool"]) == ("up", {})


async def test_an_async_sessionmaker_on_postgresql_tells_version_and_pool(
    postgres: AsyncEngine, own_postgres: OwnPostgres
) -> None:
    async with postgres.connect() as connection:
        version = (await connection.execute(text("SHOW server_version"))).scalar_one()
    row = await asked(DatabaseHealthCheck(async_sessionmaker(postgres)))
    assert row.state == "up"
    assert row.details == {
        "dialect": "postgresql",
        "driver": "asyncpg",
        "server_version": version.split()[0],
        "pool": {"size": 3, "checked_in": 0, "checked_out": 1, "overflow": -2},
    }


async def test_a_sync_sessionmaker_on_postgresql(own_postgres: OwnPostgres) -> None:
    engine = create_engine(own_postgres.url("psycopg"))
    row = await asked(DatabaseHealthCheck(sessionmaker(engine)))
    engine.dispose()
    assert (row.state, row.details["driver"]) == ("up", "psycopg")


@pytest.mark.parametrize(("server", "driver"), SHARED_ASYNC)
async def test_the_databases_of_the_machine(server: SharedServer, driver: str) -> None:
    engine = create_async_engine(server.url_for(driver))
    row = await asked(DatabaseHealthCheck(async_sessionmaker(engine)))
    await engine.dispose()
    assert (row.state, row.details["driver"]) == ("up", driver)
    assert row.details["server_version"]


@pytest.mark.parametrize("server", shared_servers("postgresql"), ids=lambda server: server.name)
async def test_the_databases_of_the_machine_with_a_blocking_driver(server: SharedServer) -> None:
    engine = create_engine(server.url_for("psycopg"))
    row = await asked(DatabaseHealthCheck(sessionmaker(engine)))
    engine.dispose()
    assert row.state == "up"


AsyncFactory = Callable[[], AbstractAsyncContextManager[object]]


def async_factories(engine: AsyncEngine) -> list[AsyncFactory]:
    return [
        engine.connect,
        async_sessionmaker(engine),
        async_sessionmaker(engine, class_=AuditedSession),
        async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task),
        lambda: AuditedSession(engine),
    ]


@pytest.mark.parametrize("number", range(5))
async def test_whatever_gives_an_async_session_will_do(sqlite: AsyncEngine, number: int) -> None:
    row = await asked(DatabaseHealthCheck(async_factories(sqlite)[number]))
    assert (row.state, row.details["dialect"]) == ("up", "sqlite")


SyncFactory = Callable[[], AbstractContextManager[object]]


def sync_factories(engine: Engine) -> list[SyncFactory]:
    return [
        engine.connect,
        sessionmaker(engine),
        scoped_session(sessionmaker(engine)),
        lambda: Session(engine),
    ]


@pytest.mark.parametrize("number", range(4))
async def test_whatever_gives_a_sync_session_will_do(sync_sqlite: Engine, number: int) -> None:
    row = await asked(DatabaseHealthCheck(sync_factories(sync_sqlite)[number]))
    assert (row.state, row.details["dialect"]) == ("up", "sqlite")


@pytest.mark.parametrize("number", range(3))
async def test_a_sync_session_is_made_and_used_off_the_event_loop(
    sync_sqlite: Engine, number: int
) -> None:
    connecting: list[threading.Thread] = []
    event.listen(sync_sqlite, "connect", lambda *_: connecting.append(threading.current_thread()))
    row = await asked(DatabaseHealthCheck(sync_factories(sync_sqlite)[number]))
    assert row.state == "up"
    assert len(connecting) == 1
    assert connecting[0] is not threading.current_thread()


async def test_the_session_that_a_thread_is_working_with_is_left_alone(
    sync_sqlite: Engine,
) -> None:
    scoped = scoped_session(sessionmaker(sync_sqlite))
    scoped.execute(text("CREATE TABLE orders (number INTEGER)"))
    scoped.execute(text("INSERT INTO orders VALUES (7)"))
    assert (await asked(DatabaseHealthCheck(scoped))).state == "up"
    assert scoped.execute(text("SELECT number FROM orders")).scalars().all() == [7]
    scoped.remove()


async def test_a_session_bound_to_a_connection_is_of_that_connections_engine(
    sqlite: AsyncEngine,
) -> None:
    async with sqlite.connect() as connection:
        row = await asked(DatabaseHealthCheck(lambda: AsyncSession(bind=connection)))
    assert (row.state, row.details["driver"]) == ("up", "aiosqlite")


async def test_a_session_without_a_bind_is_down_and_says_what_was_raised() -> None:
    row = await asked(DatabaseHealthCheck(async_sessionmaker()))
    assert failure_of(row) == ("exception", "UnboundExecutionError")


async def test_a_call_is_a_bool(sqlite: AsyncEngine, own_postgres: OwnPostgres) -> None:
    assert await DatabaseHealthCheck(async_sessionmaker(sqlite))() is True
    own_postgres.stop()
    gone = create_async_engine(own_postgres.url("asyncpg"))
    assert await DatabaseHealthCheck(async_sessionmaker(gone))() is False


async def test_a_database_that_is_away_is_down_and_up_when_it_is_back(
    postgres: AsyncEngine, own_postgres: OwnPostgres
) -> None:
    registry = registry_of(DatabaseHealthCheck(async_sessionmaker(postgres)))
    assert (await row_of(registry)).state == "up"
    own_postgres.stop()
    assert (await row_of(registry)).state == "down"
    own_postgres.start()
    await registry.report()  # at most one run is spent on a connection of before
    assert (await row_of(registry)).state == "up"


async def test_an_exhausted_pool_is_a_timeout_and_the_holders_are_unharmed(
    postgres: AsyncEngine,
) -> None:
    holders = [await postgres.connect() for _ in range(3)]
    check = DatabaseHealthCheck(async_sessionmaker(postgres))
    registry = registry_of(check, timeout_seconds=0.3)
    assert failure_of(await row_of(registry)) == ("timeout", None)
    answers = [(await holder.execute(text("SELECT 7"))).scalar_one() for holder in holders]
    assert answers == [7, 7, 7]
    for holder in holders:
        await holder.close()
    assert (await row_of(registry)).state == "up"


async def test_a_sqlite_file_that_is_taken_away_is_down(file: Path) -> None:
    file.touch()
    engine = create_async_engine(
        f"sqlite+aiosqlite:///file:{file}?mode=rw&uri=true", poolclass=NullPool
    )
    registry = registry_of(DatabaseHealthCheck(async_sessionmaker(engine)))
    assert (await row_of(registry)).state == "up"
    away = file.rename(file.with_suffix(".away"))
    assert failure_of(await row_of(registry)) == ("exception", "OperationalError")
    away.rename(file)
    assert (await row_of(registry)).state == "up"


async def test_no_session_stays_checked_out(sync_sqlite: Engine) -> None:
    registry = registry_of(DatabaseHealthCheck(sessionmaker(sync_sqlite)))
    for _ in range(10):
        assert (await row_of(registry)).state == "up"
    assert sync_sqlite.pool.status().endswith("Current Checked out connections: 0")


# --- what takes writes


async def test_a_postgresql_that_was_made_read_only_is_down_if_it_should_take_writes(
    own_postgres: OwnPostgres, postgres: AsyncEngine
) -> None:
    sync_engine = create_engine(own_postgres.url("psycopg"))
    url = f"{own_postgres.url('psycopg')}?writable=1"

    async def rows() -> list[ComponentStatus]:
        factories = async_sessionmaker(postgres), sync_engine.connect
        rows = [await asked(DatabaseHealthCheck(factory, writable=True)) for factory in factories]
        return [*rows, await asked_at(url)]

    async def made(read_only: str) -> None:
        engine = create_async_engine(own_postgres.url("psycopg"), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            words = f"ALTER SYSTEM SET default_transaction_read_only = {read_only}"
            await connection.execute(text(words))
            await connection.execute(text("SELECT pg_reload_conf()"))
        await engine.dispose()
        await asyncio.sleep(0.2)

    assert [row.state for row in await rows()] == ["up"] * 3
    try:
        await made("on")
        for row in await rows():
            assert row.failure is not None
            assert (row.state, row.failure.message) == ("down", "its transactions are read-only")
        assert (await asked(DatabaseHealthCheck(postgres.connect))).state == "up"
    finally:
        await made("off")
    assert [row.state for row in await rows()] == ["up"] * 3
    sync_engine.dispose()


async def test_a_standby_is_down_if_it_should_take_writes() -> None:
    with OwnPostgres() as primary, OwnPostgres(primary) as standby:
        assert (await asked_at(f"{primary.url('asyncpg')}?writable=1")).state == "up"
        assert (await asked_at(standby.url("asyncpg"))).state == "up"
        row = await asked_at(f"{standby.url('asyncpg')}?writable=1")
        assert row.failure is not None
        assert row.failure.message == "it is a standby, which takes no writes"


@pytest.mark.parametrize("server", shared_servers("mariadb"), ids=lambda server: server.name)
async def test_a_mariadb_that_takes_writes(server: SharedServer) -> None:
    assert (await asked_at(f"{server.url_for('aiomysql')}?writable=1")).state == "up"


async def test_a_sqlite_that_takes_no_writes_is_down_if_it_should(
    sqlite: AsyncEngine, file: Path
) -> None:
    check = DatabaseHealthCheck(sqlite.connect, writable=True)
    assert (await asked(check)).state == "up"
    assert (await asked_at(f"sqlite+aiosqlite:///{file}?writable=1")).state == "up"
    row = await asked_at(f"sqlite+aiosqlite:///{file}?mode=ro&writable=1")
    assert row.failure is not None
    assert (row.state, row.failure.message) == ("down", "its file is opened with mode=ro")
    async with sqlite.connect() as connection:
        await connection.execute(text("PRAGMA query_only = 1"))
    row = await asked(check)
    assert row.failure is not None
    assert row.failure.message == "query_only is on"


async def test_what_cannot_be_asked_whether_it_takes_writes_is_told_so() -> None:
    @contextmanager
    def plain() -> Generator[MagicMock]:
        yield MagicMock()

    row = await asked(DatabaseHealthCheck(plain, writable=True))
    assert failure_of(row) == ("exception", "InvalidOptionError")
    assert row.failure is not None
    assert (row.failure.message or "").startswith("writable=True needs a SQLAlchemy session")
    perhaps: Any = "perhaps"
    with pytest.raises(InvalidOptionError, match="writable"):
        DatabaseHealthCheck(plain, writable=perhaps)


async def test_a_check_of_a_url_follows_a_failover(own_postgres: OwnPostgres) -> None:
    """The connection that is found to be to a standby is not kept."""
    with OwnPostgres(own_postgres) as standby, FaultProxy(standby.port) as proxy:
        there = own_postgres.url("asyncpg").replace(str(own_postgres.port), str(proxy.port))
        check = check_from_url(f"{there}?writable=1")
        assert isinstance(check, ConnectedCheck)
        registry = registry_of(check)
        assert (await row_of(registry)).state == "down"
        proxy.lead_to(own_postgres.port)
        assert (await row_of(registry)).state == "up"
        await check.aclose()
