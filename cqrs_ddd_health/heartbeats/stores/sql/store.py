"""The heartbeat store in a SQL database, by any of SQLAlchemy's async drivers.

All processes share one table, `cqrs_health_heartbeats`. Its rows hold how old a beat was and the
database's own clock when it came, so that no clock of a worker decides a verdict.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from math import inf
from typing import TYPE_CHECKING, TypeVar

from cqrs_ddd_health.clients.driver_arguments import driver_arguments
from cqrs_ddd_health.clients.urls import (
    missing_driver,
    missing_extra,
    parts_of,
    port_of,
    require_host,
    scheme_of,
)
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.domain.options import require_bool, require_count
from cqrs_ddd_health.domain.protocols import BeatsRead, StoredBeat
from cqrs_ddd_health.domain.redaction import hide, secrets_of_url
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.heartbeats.stores.rows import (
    MAX_PRUNED,
    PUBLISHES_PER_PRUNE,
    ColumnsReader,
    columns_of_rows,
    key_of,
    strings_of,
)
from cqrs_ddd_health.runtime.loop_local import PerLoop

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["SqlHeartbeatStore", "ddl"]

T = TypeVar("T")


class SqlHeartbeatStore:
    """Beats in one table of a database that all processes of a service can reach.

    `url` is one of SQLAlchemy, with an async driver: `postgresql+asyncpg://`,
    `postgresql+psycopg://`, `mysql+aiomysql://`, `mysql+asyncmy://`, `mariadb+aiomysql://`, or
    `sqlite+aiosqlite:///file`, which is for processes of one host only. MariaDB has to be 10.6 or
    newer, MySQL 8.0. Stores with another `namespace` ("default" if none is given) share the table,
    and see nothing of each other.

    The table is made when it is first wanted, unless `create` is false: `ddl` says what it is.
    Besides, SELECT, INSERT, UPDATE and DELETE are all that the account has to be allowed.

    One connection is held for each event loop that asks, and opened again when it is lost, or after
    a write that was refused: behind its address another server may be the primary now. No call
    bounds its own time: whoever is not willing to wait cancels it, and its connection with it. A
    database that cannot do what it is asked raises SQLAlchemy's errors.

    A read brings no more than `max_rows` rows (10,000), first those published in the last seconds,
    then those nearest to now; the rest is counted in `dropped`. Rows that are no beats take no
    other's place. One publish in so many removes some rows of processes that are long gone.

    Raises:
        InvalidOptionError: if the URL is none of these, or an option is out of its range.
        InvalidNameError: if the namespace is no name.
        ImportError: if SQLAlchemy or the driver is not installed.
    """

    def __init__(
        self, url: str, *, namespace: str = "default", create: bool = True, max_rows: int = 10_000
    ) -> None:
        require_name(namespace, "namespace of heartbeats")
        self._max_rows = require_count("max_rows", max_rows, 1)
        self._create = require_bool("create", create)
        self._url, self._arguments = _async_url(url)
        hide(secrets_of_url(url))
        from .statements import statements_of

        self._dialect = self._url.get_backend_name()
        self._statements = statements_of(self._dialect, namespace, max_rows)
        self._databases = PerLoop(self._open, _Database.close)
        self._publishes = count()
        self._columns = ColumnsReader()

    def begin_process(self) -> None:
        """Start anew in a forked child: the connections are the parent's."""
        self._databases.begin_process()
        self._publishes = count()

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        """Put these beats in place of what is held under their (worker, instance, token)."""
        if not beats:
            return
        ordered = sorted(beats, key=key_of)
        await self._write(lambda connection: self._statements.upsert(connection, ordered))
        if next(self._publishes) % PUBLISHES_PER_PRUNE == 0:
            await self._prune()

    async def read(self) -> BeatsRead:
        """Return the beats that are held, and the database's clock at that moment."""
        from .connection import fetched

        found = await self._run(
            lambda connection: connection.run_sync(fetched, self._statements.reads, self._max_rows)
        )
        columns = columns_of_rows(found.rows, len(StoredBeat._fields))
        if self._statements.texts_are_bytes:
            columns = list(map(strings_of, columns))
        read = self._columns.read_of(found.clock, columns, found.left_out)
        return read._replace(unread=found.unread)

    async def behind_seconds(self) -> float:
        """Return when it last heard of what is published, in seconds ago: 0 of a primary.

        A replica of MySQL or MariaDB, and a standby that hears nothing any more, or may not say
        when it did, is infinitely far behind.
        """
        statement = self._statements.behind
        behind: object = await self._run(
            lambda connection: connection.scalar(statement), needs_table=False
        )
        return inf if behind is None else float(str(behind))

    async def retire(self, worker: str, instance: str, token: str) -> None:
        """Remove that one beat; do nothing if it is not held."""
        statement = self._statements.retire(worker, instance, token)
        await self._write(lambda connection: connection.execute(statement))

    async def reconnect(self) -> None:
        """Have the next call connect anew; who uses a connection may go on with it."""
        await self._databases.exchange()

    async def close(self) -> None:
        """Close the connections of all loops. Wanted again, they are opened again."""
        await self._databases.aclose()

    async def _prune(self) -> None:
        pruned = await self._write(self._statements.prune)
        if pruned >= MAX_PRUNED:  # there may be more
            self._publishes = count()

    async def _open(self) -> _Database:
        return _Database(self._url, self._arguments)

    async def _run(
        self, what: Callable[[AsyncConnection], Awaitable[T]], *, needs_table: bool = True
    ) -> T:
        """Do that in a transaction, and again if the connection is found to be lost.

        So a restart of the server between two calls is no failure, and a connection needs no look
        at it before it is used, which takes as long as to use it.
        """
        from sqlalchemy.exc import DBAPIError

        try:
            async with self._transaction(needs_table=needs_table) as connection:
                return await what(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        async with self._transaction(needs_table=needs_table) as connection:
            return await what(connection)

    async def _write(self, what: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            return await self._run(what)
        except Exception:
            # Whatever it was: this server may be a replica by now, or leave, and all that it says
            # of that is that it takes no writes.
            await self.reconnect()
            raise

    @asynccontextmanager
    async def _transaction(self, *, needs_table: bool = True) -> AsyncGenerator[AsyncConnection]:
        async with self._databases.lend() as database:
            try:
                if self._create and needs_table and not database.has_table:
                    await database.require_table()
                async with database.engine.begin() as connection:
                    yield connection
            except Exception:
                database.has_table = False  # it may be another database that has come up
                raise


class _Database:
    """One event loop's connection."""

    def __init__(self, url: URL, arguments: Mapping[str, object]) -> None:
        from sqlalchemy import event
        from sqlalchemy.ext.asyncio import create_async_engine

        from .connection import bounded_connection, prepare_connection

        is_sqlite = url.get_backend_name() == "sqlite"
        if is_sqlite:
            # Whoever writes locks first, and waits for the lock: 5 s, unless the URL says another
            # timeout. A lock that is only taken after something was read fails at once.
            arguments = {"isolation_level": "IMMEDIATE", "factory": bounded_connection}
        self.engine: AsyncEngine = create_async_engine(
            url, pool_size=1, max_overflow=0, connect_args=arguments
        )
        prepare = partial(prepare_connection, url.get_backend_name())
        event.listen(self.engine.sync_engine, "connect", prepare)
        self.has_table = False

    async def close(self) -> None:
        await self.engine.dispose()

    async def require_table(self) -> None:
        """Make the table if it is not there: who may not make one may still use it."""
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.schema import CreateTable

        from .statements import TABLE

        if not await self._finds_table():
            try:
                async with self.engine.begin() as connection:
                    await connection.execute(CreateTable(TABLE, if_not_exists=True))
            except DBAPIError:
                # Two who make it at once: PostgreSQL refuses the second in spite of IF NOT EXISTS.
                if not await self._finds_table():
                    raise
        self.has_table = True

    async def _finds_table(self) -> bool:
        async with self.engine.connect() as connection:
            return await connection.run_sync(_has_table)


def _has_table(connection: Connection) -> bool:
    from sqlalchemy import inspect

    from .statements import TABLE

    return inspect(connection).has_table(TABLE.name)


def ddl(url_or_dialect: str) -> str:
    """Return the statement that makes the table, for where `create` has to be false.

    Takes a URL of the store, or just "postgresql", "mysql", "mariadb" or "sqlite".

    Raises:
        InvalidOptionError: if it names none of these.
        ImportError: if SQLAlchemy is not installed.
    """
    url = url_or_dialect if "://" in url_or_dialect else f"{url_or_dialect}://"
    dialect = _dialect_of(_url(url))
    from sqlalchemy.schema import CreateTable

    from .statements import TABLE

    return str(CreateTable(TABLE, if_not_exists=True).compile(dialect=dialect())).strip()


def _async_url(url: str) -> tuple[URL, Mapping[str, object]]:
    """Return what SQLAlchemy makes of a URL, if it is one whose driver is there, and async.

    Beside it is what the driver is given when it connects.
    """
    scheme = scheme_of(url)
    parts = parts_of(url := f"{scheme}{url[len(scheme) :]}")
    port_of(parts)
    made = _url(url)
    dialect, backend = _dialect_of(made), made.get_backend_name()
    if not dialect.get_async_dialect_cls(made).is_async:
        raise InvalidOptionError(f"the driver of {scheme}:// is not async: {_ASYNC[backend]} is")
    if backend == "sqlite":
        file = made.database
        if not file or ":memory:" in file or made.query.get("mode") == "memory":
            raise InvalidOptionError(f"it names no file: {scheme}:///relative or ////absolute")
    elif not {"host", "unix_socket"} & made.query.keys():  # which names a socket
        require_host(parts)
    try:
        driver = dialect.import_dbapi()
    except ImportError as error:
        raise missing_driver(scheme, error) from error
    return driver_arguments(made, driver.connect)


def _url(url: str) -> URL:
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise missing_extra("sqlalchemy") from error
    # Many services hand out postgres://, which SQLAlchemy took until 1.4.
    try:
        made = make_url(re.sub(r"^postgres(?=[:+])", "postgresql", url))
    except (ArgumentError, ValueError):
        raise InvalidOptionError("SQLAlchemy cannot read it") from None
    if made.get_backend_name() not in _ASYNC:
        raise InvalidOptionError(f"it may be of {', '.join(_ASYNC)}")
    return made


def _dialect_of(url: URL) -> type[Dialect]:
    from sqlalchemy.exc import NoSuchModuleError

    try:
        return url.get_dialect()
    except NoSuchModuleError:
        raise InvalidOptionError(f"SQLAlchemy knows no such driver: {url.drivername}") from None


_ASYNC = {
    "postgresql": "postgresql+asyncpg://",
    "mysql": "mysql+aiomysql://",
    "mariadb": "mariadb+aiomysql://",
    "sqlite": "sqlite+aiosqlite:///",
}
