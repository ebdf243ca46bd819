"""What the SQL heartbeat store does to a connection itself. Needs SQLAlchemy, is imported late."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from sqlalchemy import Connection, Executable
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, OperationalError

from cqrs_ddd_health.heartbeats.stores.rows import MAX_BYTES

from .reads import MAX_LENGTH, Reads

__all__ = ["Fetched", "bounded_connection", "fetched", "prepare_connection"]


_MAX_FAILED = 500
"""How often a read may fail because of such a value."""


class Fetched(NamedTuple):
    """What a database holds."""

    clock: float
    rows: Sequence[Sequence[object]]
    left_out: int
    unread: int
    """How many of these were left out because of a limit, and may be beats."""


def fetched(connection: Connection, reads: Reads, max_rows: int) -> Fetched:
    """Return the rows, but no more than so many, and the clock of after they were read."""
    try:
        rows, left_out, unread = _chosen_rows(connection, reads, max_rows)
    except DataError:
        total = int(_number(connection, reads.total))
        if reads.loose is None or total > max_rows:
            raise
        rows = _rows_but_the_long(connection, reads.loose.some, total)
        left_out, unread = total - len(rows), 0
    return Fetched(_number(connection, reads.clock), rows, left_out, unread)


def _chosen_rows(
    connection: Connection, reads: Reads, max_rows: int
) -> tuple[Sequence[Sequence[object]], int, int]:
    """Return rows, how many were left out, and how many of these may be beats."""
    loose = reads.loose
    is_filtered = loose is not None and _number(connection, loose.size) > MAX_BYTES
    statement = loose.short if loose is not None and is_filtered else reads.beats
    rows, unread = _rows(connection, statement), 0
    if len(rows) <= max_rows and not is_filtered:
        return rows, 0, 0
    if len(rows) > max_rows:
        possible = int(_number(connection, reads.possible))
        rows = _rows(connection, reads.living, now=_number(connection, reads.clock))
        unread = max(possible - len(rows), 0)
    return rows, max(int(_number(connection, reads.total)) - len(rows), 0), unread


def _rows_but_the_long(
    connection: Connection, some: Executable, total: int
) -> Sequence[Sequence[object]]:
    """Halve again and again what cannot be read, down to the rows that hold such a value."""
    rows: list[Sequence[object]] = []
    parts, failed = [(0, total)], 0
    while parts:
        first, count = parts.pop()
        try:
            rows += _rows(connection, some, first=first, count=count)
        except DataError:
            failed += 1
            if failed > _MAX_FAILED:
                raise
            half = count // 2
            parts += [(first + half, count - half), (first, half)] if half else []
    return rows


def _number(connection: Connection, statement: Executable) -> float:
    return cast("float", connection.execute(statement).scalar_one())


def _rows(
    connection: Connection, statement: Executable, **values: float
) -> Sequence[Sequence[object]]:
    """Return the rows as the driver made them: ten thousand of SQLAlchemy's own take long."""
    try:
        with connection.execute(statement, values) as result:
            return cast("_Cursor", result.cursor).fetchall()
    except OperationalError as error:
        if "decode to UTF-8" not in str(error.orig):
            raise
        # One such text would fail each read. From now on it is a name that is refused.
        sqlite_connection = cast("_AdaptedSqlite", connection.connection.dbapi_connection)
        factory = partial(bytes.decode, errors="surrogateescape")
        sqlite_connection.driver_connection.text_factory = factory
        return _rows(connection, statement, **values)


def bounded_connection(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """Return a new connection to SQLite that reads no value that is longer than `MAX_LENGTH`."""
    connection = sqlite3.Connection(*arguments, **options)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LENGTH)
    return connection


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
