"""What the SQL heartbeat store says to each database. Needs SQLAlchemy, and is imported late.

A stamp is the database's own clock: seconds in a double, never a timestamp column, whose meaning
depends on the time zones of server and session. On PostgreSQL and MySQL that is the server's clock
as the epoch counts. SQLite has none of its own, and gets one that all processes of the host share:
since the machine was started, with the name of that start beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    FromClause,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection

from cqrs_ddd_health.domain.names import MAX_NAME_LENGTH
from cqrs_ddd_health.domain.protocols import StoredBeat
from cqrs_ddd_health.heartbeats.stores.rows import (
    KEPT_SECONDS,
    KEPT_TIMEOUTS,
    MAX_PRUNED,
    MAX_SECONDS,
    key_of,
)

from .reads import (
    KEY,
    PUBLISHED,
    TABLE,
    Number,
    Of,
    Reads,
    are_beats,
    loose_reads_of,
    reads_of,
    too_long_of,
)

__all__ = [
    "TABLE",
    "SqlStatements",
    "statements_of",
    "this_boot",
]

_OLD, _LATER = TABLE.alias("old"), TABLE.alias("later")
_UPDATED = tuple(field for field in PUBLISHED if field not in KEY)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Rows of an earlier start of the machine are older than all of this one, whatever their stamps.
_ANOTHER_BOOT_SECONDS = 2 * MAX_SECONDS


class SqlStatements(Protocol):
    """What is said to one kind of database, about one namespace."""

    texts_are_bytes: bool
    """Whether the driver returns them so."""
    behind: Executable
    """Returns when it last heard of a primary, in seconds ago: 0 if it is one, NULL for never."""

    @property
    def reads(self) -> Reads:
        """What reads."""
        ...

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        """Put these in place of what is held, in one batch."""
        ...

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        """Return what removes one row."""
        ...

    async def prune(self, connection: AsyncConnection) -> int:
        """Remove some rows of processes that are long gone, and return how many."""
        ...


def statements_of(dialect: str, namespace: str, max_rows: int) -> SqlStatements:
    """Return what is said to a database that SQLAlchemy gives that name."""
    if dialect == "postgresql":
        return _Postgres(namespace, max_rows)
    return _Sqlite(namespace, max_rows) if dialect == "sqlite" else _Mysql(namespace, max_rows)


def _epoch_of_postgres(moment: str) -> Number:
    return literal_column(f"CAST(extract(epoch FROM {moment}) AS double precision)", Double())


def this_boot() -> str:
    """Return the kernel's name of this start of the machine; empty where it gives it none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class _Postgres:
    """A batch is one statement with an array for each column.

    One for each row would take a prepared statement, which does not pass a pooler.
    """

    texts_are_bytes = False
    # A reader's own account may be one that only reads: that says nothing of the others.
    behind: Executable = text(
        "SELECT CASE WHEN pg_is_in_recovery() THEN (SELECT extract(epoch FROM clock_timestamp() "
        "- last_msg_receipt_time) FROM pg_stat_wal_receiver) WHEN EXISTS (SELECT FROM pg_settings "
        "WHERE name = 'default_transaction_read_only' AND setting = 'on' AND source NOT IN "
        "('user', 'database user', 'client', 'session')) THEN NULL ELSE 0 END"
    )

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = namespace
        now = _epoch_of_postgres("clock_timestamp()")
        self.reads = reads_of(now, namespace, max_rows, _stamp, _stamp)
        self._upsert = _postgres_upsert(namespace)
        # Two who prune at once would wait for each other. And a plain subquery may be run again
        # and again, each time for other rows.
        gone = _gone(now, namespace, _stamp).with_for_update(skip_locked=True).cte("gone")
        self._prune = delete(TABLE).where(_key().in_(select(gone)))

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        # Of two with one key the later one: a statement cannot touch a row twice.
        rows = {key_of(beat): beat[: len(PUBLISHED)] for beat in beats}.values()
        columns: dict[str, list[Any]] = {
            name: list(column)
            for name, column in zip(PUBLISHED, zip(*rows, strict=True), strict=True)
        }
        for name in _SECONDS:  # psycopg makes no array of whole and other numbers
            columns[name] = list(map(float, columns[name]))
        await connection.execute(self._upsert, columns)

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        return _retire(self._namespace, worker, instance, token)

    async def prune(self, connection: AsyncConnection) -> int:
        return (await connection.execute(self._prune)).rowcount


class _Sqlite:
    """The same, in the driver's own words: SQLAlchemy's cost more than what SQLite does."""

    texts_are_bytes = False
    behind: Executable = text("SELECT 0")

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = namespace
        self._boot = this_boot()
        now: Number = func.cqrs_health_clock(type_=Double())
        self.reads = loose_reads_of(now, namespace, max_rows, self._stamp_or_none)
        self._too_long = too_long_of(namespace)
        inserted = sqlite.insert(TABLE).values(stamp=now)
        kept = {name: inserted.excluded[name] for name in (*_UPDATED, "stamp", "boot")}
        upsert = inserted.on_conflict_do_update(index_elements=KEY, set_=kept)
        given = ["namespace", *PUBLISHED, "boot"]
        self._upsert = str(upsert.compile(dialect=sqlite.dialect(), column_keys=given))
        self._prune = delete(TABLE).where(_key().in_(_gone(now, namespace, self._last)))

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        rows = [(self._namespace, *beat[: len(PUBLISHED)], self._boot) for beat in beats]
        await connection.exec_driver_sql(self._upsert, rows)

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        return _retire(self._namespace, worker, instance, token)

    async def prune(self, connection: AsyncConnection) -> int:
        # To look for rows by their key reads those whole that lie on the way, whatever their size.
        if await self._holds_what_is_too_long(connection):
            return 0
        return (await connection.execute(self._prune)).rowcount

    async def _holds_what_is_too_long(self, connection: AsyncConnection) -> bool:
        try:
            return bool((await connection.execute(self._too_long)).scalar_one())
        except DataError:
            return True

    def _stamp_or_none(self, table: FromClause) -> Number:
        return case((table.c.boot == self._boot, table.c.stamp))

    def _last(self, table: FromClause) -> Number:
        stamp = _stamp(table)
        return case((table.c.boot == self._boot, stamp), else_=stamp - _ANOTHER_BOOT_SECONDS)


class _Mysql:
    """MySQL and MariaDB: a batch is one JSON document, which their drivers send in one go."""

    texts_are_bytes = True
    # What is read-only is taken for a replica; later versions have more than one word for that. How
    # far a replica is behind is told to few accounts.
    behind: Executable = text(
        "SELECT CASE WHEN concat(@@global.read_only) IN ('0', 'OFF') AND "
        "concat(@@global.innodb_read_only) IN ('0', 'OFF') THEN 0 END"
    )

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = _bytes(namespace)
        now: Number = literal_column(_MYSQL_CLOCK, Double())
        self._upsert = _mysql_upsert(self._namespace)
        self._prune = _MYSQL_PRUNE.bindparams(namespace=namespace.encode().hex())
        self.reads = reads_of(now, self._namespace, max_rows, _stamp, _stamp)
        key = (func.hex(_OLD.c[name]) for name in KEY[1:])
        self._gone = _gone(now, self._namespace, _stamp).with_only_columns(*key)

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        # Of ASCII alone: whatever the connection's character set, these are the same characters.
        given = json.dumps([beat[: len(PUBLISHED)] for beat in beats])
        await connection.execute(self._upsert, {"given": given})

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        names = map(_bytes, (worker, instance, token))
        return _retire(self._namespace, *names)

    async def prune(self, connection: AsyncConnection) -> int:
        # Two statements: MySQL locks what a DELETE reads, and may not read what it deletes from.
        gone = [tuple(row) for row in await connection.execute(self._gone)]
        if gone:
            await connection.execute(self._prune, {"gone": json.dumps(gone)})
        return len(gone)


def _bytes(name: str) -> ColumnElement[object]:
    """Not as a parameter of bytes: with today's PyMySQL, aiomysql can send none."""
    return func.unhex(name.encode().hex())


def _stamp(table: FromClause) -> Number:
    return table.c.stamp


def _key() -> ColumnElement[tuple[object, ...]]:
    return tuple_(*(TABLE.c[name] for name in KEY))


def _gone(now: Number, namespace: object, last: Of[Number]) -> Select[*tuple[object, ...]]:
    """The keys of some rows not published for so long, while another of the worker has been.

    Only a beat is another: what no publisher has written must not have an outage vanish.
    """
    # Divided and not multiplied: no number that stands in a row is then too large.
    is_silent = (now - KEPT_SECONDS - last(_OLD)) / KEPT_TIMEOUTS > _OLD.c.timeout_seconds
    is_later = tuple_(last(_LATER), _LATER.c.instance, _LATER.c.token) > tuple_(
        last(_OLD), _OLD.c.instance, _OLD.c.token
    )
    is_of_it = and_(_LATER.c.namespace == namespace, _LATER.c.worker == _OLD.c.worker)
    is_beat = and_(*are_beats(_LATER), last(_LATER) <= now)
    key = [_OLD.c[name] for name in KEY]
    return (
        select(*key)
        .where(
            _OLD.c.namespace == namespace, is_silent, exists().where(is_of_it, is_beat, is_later)
        )
        .order_by(*key)
        .limit(MAX_PRUNED)
    )


def _retire(*key: object) -> Executable:
    is_it = (TABLE.c[name] == value for name, value in zip(KEY, key, strict=True))
    return delete(TABLE).where(*is_it)


_SECONDS = ("age_seconds", "timeout_seconds", "publish_interval_seconds")
_POSTGRES_TYPES = {
    "publish_number": "bigint",
    "progress": "bigint",
    **dict.fromkeys(_SECONDS, "double precision"),
}


def _postgres_upsert(namespace: str) -> Executable:
    arrays = ", ".join(
        f"CAST(:{name} AS {_POSTGRES_TYPES.get(name, 'text')}[])" for name in PUBLISHED
    )
    given = text(f"unnest({arrays}) AS given({', '.join(PUBLISHED)})")
    now = _epoch_of_postgres("statement_timestamp()")
    columns: list[ColumnElement[object]] = [literal_column(f"given.{name}") for name in PUBLISHED]
    rows = select(literal(namespace), *columns, now).select_from(given)
    inserted = postgresql.insert(TABLE).from_select(["namespace", *PUBLISHED, "stamp"], rows)
    kept = {name: inserted.excluded[name] for name in (*_UPDATED, "stamp")}
    return inserted.on_conflict_do_update(index_elements=KEY, set_=kept)


_MYSQL_CLOCK = "(timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6)"
_MYSQL_TYPES = (
    *(f"{name} VARCHAR({MAX_NAME_LENGTH}) CHARACTER SET utf8mb4" for name in KEY[1:]),
    "publish_number BIGINT",
    "age_seconds DOUBLE",
    "timeout_seconds DOUBLE",
    "publish_interval_seconds DOUBLE",
    f"phase VARCHAR({MAX_NAME_LENGTH}) CHARACTER SET utf8mb4",
    "progress BIGINT",
)


def _json_table(parameter: str, columns: Sequence[str]) -> str:
    """Return a table of a JSON list of lists."""
    paths = ", ".join(f"{column} PATH '$[{place}]'" for place, column in enumerate(columns))
    return f"JSON_TABLE(:{parameter}, '$[*]' COLUMNS ({paths}))"


def _mysql_upsert(namespace: ColumnElement[object]) -> Executable:
    clock: ColumnElement[object] = literal_column(_MYSQL_CLOCK)
    given: dict[str, ColumnElement[object]] = {
        name: literal_column(f"given.{name}") for name in PUBLISHED
    }
    columns: list[ColumnElement[object]] = [
        namespace,
        *given.values(),
        clock,
    ]
    table = text(f"{_json_table('given', _MYSQL_TYPES)} AS given")
    rows = select(*columns).select_from(table)
    updated: dict[str, object] = {name: given[name] for name in _UPDATED}
    return (
        mysql.insert(TABLE)
        .from_select(["namespace", *PUBLISHED, "stamp"], rows)
        .on_duplicate_key_update(updated | {"stamp": clock})
    )


# What has been published again since it was found stays.
_MYSQL_PRUNE = text(
    f"DELETE {TABLE.name} FROM "
    f"{_json_table('gone', [f'{name} VARCHAR({8 * MAX_NAME_LENGTH})' for name in KEY[1:]])} "
    f"AS gone STRAIGHT_JOIN {TABLE.name} ON {TABLE.name}.namespace = unhex(:namespace) AND "
    f"{' AND '.join(f'{TABLE.name}.{name} = unhex(gone.{name})' for name in KEY[1:])} "
    f"WHERE ({_MYSQL_CLOCK} - {KEPT_SECONDS} - stamp) / {KEPT_TIMEOUTS} > timeout_seconds"
)
