"""What the SQL heartbeat store says to each database. Needs SQLAlchemy, and is imported late.

A stamp is the database's own clock: seconds in a double, never a timestamp column, whose meaning
depends on the time zones of server and session. On PostgreSQL and MySQL that is the server's clock
as the epoch counts. SQLite has none of its own, and gets one that all processes of the host share:
since the machine was started, with the name of that start beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Executable,
    FromClause,
    MetaData,
    Select,
    String,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cqrs_ddd_health.names import MAX_NAME_LENGTH
from cqrs_ddd_health.protocols import StoredBeat

from .rows import KEPT_SECONDS, KEPT_TIMEOUTS, MAX_PRUNED

__all__ = [
    "TABLE",
    "Reads",
    "SqlStatements",
    "statements_of",
    "this_boot",
]

# MySQL's collations, the binary ones too, take "a" and "a " for one. Bytes are kept apart, and
# whatever the character sets of server and session, they are UTF-8: four at most for a character.
# The key has 4 * 512 bytes of the 3072 that InnoDB allows.
_NAME = String(MAX_NAME_LENGTH).with_variant(
    mysql.VARBINARY(4 * MAX_NAME_LENGTH), "mysql", "mariadb"
)

TABLE = Table(
    "cqrs_health_heartbeats",
    MetaData(),
    Column("namespace", _NAME, primary_key=True),
    Column("worker", _NAME, primary_key=True),
    Column("instance", _NAME, primary_key=True),
    Column("token", _NAME, primary_key=True),
    Column("publish_number", BigInteger, nullable=False),
    Column("age_seconds", Double, nullable=False),
    Column("timeout_seconds", Double, nullable=False),
    Column("publish_interval_seconds", Double, nullable=False),
    Column("phase", _NAME),
    Column("progress", BigInteger),
    Column("stamp", Double, nullable=False),
    Column("boot", Text),
    sqlite_with_rowid=False,  # the key is all that rows are found by
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
_OLD, _LATER = TABLE.alias("old"), TABLE.alias("later")
_KEY = ("namespace", "worker", "instance", "token")
_PUBLISHED = tuple(field for field in StoredBeat._fields if field != "stamp")
_UPDATED = tuple(field for field in _PUBLISHED if field not in _KEY)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Rows of an earlier start of the machine are older than all of this one, whatever their stamps.
_ANOTHER_BOOT_SECONDS = 1e9

_Number: TypeAlias = "ColumnElement[float]"


class Reads(NamedTuple):
    """What is asked to read beats. All of it in one statement would take half as long again."""

    beats: Executable
    """Returns the fields of each, and of one more than may be read if there are so many."""
    total: Executable
    """Returns how many there are."""
    latest: Executable
    """Returns the fields of as many as may be read, those published last."""
    clock: Executable
    """Returns the database's clock, in seconds. Asked last: what was read waited for has come."""


class SqlStatements(Protocol):
    """What is said to one kind of database, about one namespace."""

    texts_are_bytes: bool
    """Whether the driver returns them so."""

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


def _epoch_of_postgres(moment: str) -> _Number:
    return literal_column(f"CAST(extract(epoch FROM {moment}) AS double precision)", Double())


def this_boot() -> str:
    """Return the kernel's name of this start of the machine; empty where it gives it none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class _Postgres:
    """A batch of one statement for each row, which its drivers send in one go."""

    texts_are_bytes = False

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = namespace
        now = _epoch_of_postgres("clock_timestamp()")
        stamp = _stamp(TABLE)
        self.reads = _reads(now, namespace, max_rows, stamp, stamp)
        inserted = postgresql.insert(TABLE).values(
            stamp=_epoch_of_postgres("statement_timestamp()")
        )
        kept = {name: inserted.excluded[name] for name in (*_UPDATED, "stamp")}
        self._upsert = inserted.on_conflict_do_update(index_elements=_KEY, set_=kept)
        # Two who prune at once would wait for each other. And a plain subquery may be run again
        # and again, each time for other rows.
        gone = _gone(now, namespace, _stamp).with_for_update(skip_locked=True).cte("gone")
        self._prune = delete(TABLE).where(_key().in_(select(gone)))

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        rows = [
            {"namespace": self._namespace, **dict(zip(_PUBLISHED, beat, strict=False))}
            for beat in beats
        ]
        await connection.execute(self._upsert, rows)

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        return _retire(self._namespace, worker, instance, token)

    async def prune(self, connection: AsyncConnection) -> int:
        return (await connection.execute(self._prune)).rowcount


class _Sqlite:
    """The same, in the driver's own words: SQLAlchemy's cost more than what SQLite does."""

    texts_are_bytes = False

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = namespace
        self._boot = this_boot()
        now: _Number = func.cqrs_health_clock(type_=Double())
        stamp_or_none = case((TABLE.c.boot == self._boot, TABLE.c.stamp))
        last = self._last(TABLE)
        self.reads = _reads(now, namespace, max_rows, stamp_or_none, last)
        inserted = sqlite.insert(TABLE).values(stamp=now)
        kept = {name: inserted.excluded[name] for name in (*_UPDATED, "stamp", "boot")}
        upsert = inserted.on_conflict_do_update(index_elements=_KEY, set_=kept)
        given = ["namespace", *_PUBLISHED, "boot"]
        self._upsert = str(upsert.compile(dialect=sqlite.dialect(), column_keys=given))
        self._prune = delete(TABLE).where(_key().in_(_gone(now, namespace, self._last)))

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        rows = [(self._namespace, *beat[: len(_PUBLISHED)], self._boot) for beat in beats]
        await connection.exec_driver_sql(self._upsert, rows)

    def retire(self, worker: str, instance: str, token: str) -> Executable:
        return _retire(self._namespace, worker, instance, token)

    async def prune(self, connection: AsyncConnection) -> int:
        return (await connection.execute(self._prune)).rowcount

    def _last(self, table: FromClause) -> _Number:
        stamp = _stamp(table)
        return case((table.c.boot == self._boot, stamp), else_=stamp - _ANOTHER_BOOT_SECONDS)


class _Mysql:
    """MySQL and MariaDB: a batch is one JSON document, which their drivers send in one go."""

    texts_are_bytes = True

    def __init__(self, namespace: str, max_rows: int) -> None:
        self._namespace = _bytes(namespace)
        now: _Number = literal_column(_MYSQL_CLOCK, Double())
        self._upsert = _mysql_upsert(self._namespace)
        self._prune = _MYSQL_PRUNE.bindparams(namespace=namespace.encode().hex())
        stamp = _stamp(TABLE)
        self.reads = _reads(now, self._namespace, max_rows, stamp, stamp)
        key = (func.hex(_OLD.c[name]) for name in _KEY[1:])
        self._gone = _gone(now, self._namespace, _stamp).with_only_columns(*key)

    async def upsert(self, connection: AsyncConnection, beats: Sequence[StoredBeat]) -> None:
        # Of ASCII alone: whatever the connection's character set, these are the same characters.
        given = json.dumps([beat[: len(_PUBLISHED)] for beat in beats])
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


def _stamp(table: FromClause) -> _Number:
    return table.c.stamp


def _key() -> ColumnElement[tuple[object, ...]]:
    return tuple_(*(TABLE.c[name] for name in _KEY))


def _reads(now: _Number, namespace: object, max_rows: int, stamp: _Number, last: _Number) -> Reads:
    """Return what reads. To put all rows in order takes as long as to read them."""
    is_ours = TABLE.c.namespace == namespace
    beats = select(*(TABLE.c[name] for name in _PUBLISHED), stamp.label("stamp")).where(is_ours)
    return Reads(
        beats=beats.limit(max_rows + 1),
        total=select(func.count()).select_from(TABLE).where(is_ours),
        latest=beats.order_by(last.desc()).limit(max_rows),
        clock=select(now),
    )


def _gone(
    now: _Number, namespace: object, last: Callable[[FromClause], _Number]
) -> Select[*tuple[object, ...]]:
    """The keys of some rows not published for so long, while another of the worker has been."""
    # Divided and not multiplied: no number that stands in a row is then too large.
    is_silent = (now - KEPT_SECONDS - last(_OLD)) / KEPT_TIMEOUTS > _OLD.c.timeout_seconds
    is_later = tuple_(last(_LATER), _LATER.c.instance, _LATER.c.token) > tuple_(
        last(_OLD), _OLD.c.instance, _OLD.c.token
    )
    is_of_it = and_(_LATER.c.namespace == namespace, _LATER.c.worker == _OLD.c.worker)
    key = [_OLD.c[name] for name in _KEY]
    return (
        select(*key)
        .where(_OLD.c.namespace == namespace, is_silent, exists().where(is_of_it, is_later))
        .order_by(*key)
        .limit(MAX_PRUNED)
    )


def _retire(*key: object) -> Executable:
    is_it = (TABLE.c[name] == value for name, value in zip(_KEY, key, strict=True))
    return delete(TABLE).where(*is_it)


_MYSQL_CLOCK = "(timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6)"
_MYSQL_TYPES = (
    *(f"{name} VARCHAR({MAX_NAME_LENGTH}) CHARACTER SET utf8mb4" for name in _KEY[1:]),
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
        name: literal_column(f"given.{name}") for name in _PUBLISHED
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
        .from_select(["namespace", *_PUBLISHED, "stamp"], rows)
        .on_duplicate_key_update(updated | {"stamp": clock})
    )


# What has been published again since it was found stays.
_MYSQL_PRUNE = text(
    f"DELETE {TABLE.name} FROM "
    f"{_json_table('gone', [f'{name} VARCHAR({8 * MAX_NAME_LENGTH})' for name in _KEY[1:]])} "
    f"AS gone STRAIGHT_JOIN {TABLE.name} ON {TABLE.name}.namespace = unhex(:namespace) AND "
    f"{' AND '.join(f'{TABLE.name}.{name} = unhex(gone.{name})' for name in _KEY[1:])} "
    f"WHERE ({_MYSQL_CLOCK} - {KEPT_SECONDS} - stamp) / {KEPT_TIMEOUTS} > timeout_seconds"
)
