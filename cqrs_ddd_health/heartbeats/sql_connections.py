"""What the SQL heartbeat store does to a connection itself. Needs SQLAlchemy, is imported late."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol, cast

from sqlalchemy import Connection, Executable
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError

from .sql_statements import Reads

__all__ = ["Fetched", "fetched", "prepare_connection"]


class Fetched(NamedTuple):
    """What a database holds."""

    clock: float
    rows: Sequence[Sequence[object]]
    left_out: int


def fetched(connection: Connection, reads: Reads, max_rows: int) -> Fetched:
    """Return the rows, but no more than so many, and the clock of after they were read."""
    rows, left_out = _rows(connection, reads.beats), 0
    if len(rows) > max_rows:
        total = _number(connection, reads.total)
        rows = _rows(connection, reads.latest)
        left_out = int(total) - len(rows)
    return Fetched(_number(connection, reads.clock), rows, left_out)


def _number(connection: Connection, statement: Executable) -> float:
    return cast("float", connection.execute(statement).scalar_one())


def _rows(connection: Connection, statement: Executable) -> Sequence[Sequence[object]]:
    """Return the rows as the driver made them: ten thousand of SQLAlchemy's own take long."""
    try:
        with connection.execute(statement) as result:
            return cast("_Cursor", result.cursor).fetchall()
    except OperationalError as error:
        if "decode to UTF-8" not in str(error.orig):
            raise
        # One such text would fail each read. From now on it is a name that is refused.
        sqlite_connection = cast("_AdaptedSqlite", connection.connection.dbapi_connection)
        factory = partial(bytes.decode, errors="surrogateescape")
        sqlite_connection.driver_connection.text_factory = factory
        return _rows(connection, statement)


def prepare_connection(dialect: str, connection: DBAPIConnection, _: object) -> None:
    """Make a new connection what the statements need; for the "connect" event of an engine."""
    cursor = connection.cursor()
    try:
        if dialect == "sqlite":
            _prepare_sqlite(connection)
            with suppress(sqlite3.OperationalError):  # another process is doing it just now
                cursor.execute("PRAGMA journal_mode=WAL")
        elif dialect != "postgresql":
            # Drivers warn of notes, such as that a table exists.
            cursor.execute("SET SESSION sql_notes = 0")
    finally:
        cursor.close()


def _prepare_sqlite(connection: object) -> None:
    cast("_AdaptedSqlite", connection).create_function("cqrs_health_clock", 0, _since_boot)


class _Cursor(Protocol):
    def fetchall(self) -> Sequence[Sequence[object]]: ...


class _SqliteConnection(Protocol):
    text_factory: Callable[[bytes], str]


class _AdaptedSqlite(Protocol):
    driver_connection: _SqliteConnection

    def create_function(
        self, name: str, arguments: int, function: Callable[[], float], /
    ) -> None: ...


def _since_boot() -> float:
    # Where the machine sleeps, this goes on; where there is none, nothing is asleep with us in it.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
