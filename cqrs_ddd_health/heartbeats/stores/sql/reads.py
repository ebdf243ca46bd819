"""The table of beats in a SQL database, and what reads it. Needs SQLAlchemy, and is imported late.

Who may write to it may write anything: of too many rows those that no publisher could have written
are left out where they lie, and who lives comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

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
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects import mysql

from cqrs_ddd_health.domain.fields import MAX_COUNT
from cqrs_ddd_health.domain.names import MAX_NAME_LENGTH
from cqrs_ddd_health.domain.protocols import StoredBeat
from cqrs_ddd_health.heartbeats.stores.rows import LATELY_SECONDS, MAX_SECONDS

__all__ = [
    "KEY",
    "MAX_LENGTH",
    "PUBLISHED",
    "TABLE",
    "Loose",
    "Number",
    "Of",
    "Reads",
    "are_beats",
    "loose_reads_of",
    "reads_of",
    "too_long_of",
]

T = TypeVar("T")

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
KEY = ("namespace", "worker", "instance", "token")
PUBLISHED = tuple(field for field in StoredBeat._fields if field != "stamp")

MAX_LENGTH = 2**20
"""In bytes: SQLite fails what would read a longer value. Without it, it would take that memory."""
# What is stamped while it is asked for is ahead of that moment.
_AHEAD_SECONDS = 1.0
_MAX_DOUBLE = 1e308
_SQLITE_SIZE = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
_NUMBERS = (
    *("publish_number", "age_seconds", "timeout_seconds", "publish_interval_seconds", "stamp"),
)

Number: TypeAlias = "ColumnElement[float]"
Of: TypeAlias = "Callable[[FromClause], T]"


class Loose(NamedTuple):
    """What is asked of SQLite besides."""

    size: Executable
    """Returns how many bytes the database has. Where these are few, nothing in it is long."""
    short: Executable
    """Returns what `beats` does, but for rows that are too long for us."""
    some: Executable
    """Returns so of `count` rows from the one at `first` on, where one of them fails a read."""


class Reads(NamedTuple):
    """What is asked to read beats. All of it in one statement would take half as long again."""

    beats: Executable
    """Returns the fields of each, and of one more than may be read if there are so many."""
    total: Executable
    """Returns how many rows there are."""
    possible: Executable
    """Returns how many of them may be beats."""
    living: Executable
    """Returns the fields of as many that may be beats as may be read: those first that were
    published lately at the moment `now`, then those that were nearest to it."""
    loose: Loose | None
    """What is asked where a column may hold what is not of its type, and longer than it."""
    clock: Executable
    """Returns the database's clock, in seconds. Asked last: what was read waited for has come."""


def reads_of(
    now: Number, namespace: object, max_rows: int, stamp: Of[Number], last: Of[Number]
) -> Reads:
    """Return what reads. To put all rows in order takes as long as to read them."""
    is_ours = TABLE.c.namespace == namespace
    possible = and_(is_ours, *are_beats(TABLE))
    beats = _fields(TABLE, stamp)
    return Reads(
        beats=beats.where(is_ours).limit(max_rows + 1),
        total=_count(is_ours),
        possible=_count(possible),
        living=_living(beats.where(possible), last(TABLE), max_rows),
        loose=None,
        clock=select(now),
    )


def _fields(table: FromClause, stamp: Of[Number]) -> Select[*tuple[object, ...]]:
    return select(*(table.c[name] for name in PUBLISHED), stamp(table).label("stamp"))


def _count(condition: ColumnElement[bool]) -> Executable:
    return select(func.count()).select_from(TABLE).where(condition)


def _living(
    possible: Select[*tuple[object, ...]], last: Number, max_rows: int
) -> Select[*tuple[object, ...]]:
    """Those of who lives are of the last seconds, whatever their timeouts: killed jobs are not."""
    moment: Number = bindparam("now", type_=Double())
    is_late = last.between(moment - LATELY_SECONDS, moment + _AHEAD_SECONDS)
    order = case((is_late, 0), else_=1), func.abs(last - moment)
    return possible.order_by(*order).limit(max_rows)


def are_beats(table: FromClause) -> Sequence[ColumnElement[bool]]:
    """What is true of each beat, and of NaN is not. Which characters are in a name is not asked."""
    limits = {
        "publish_number": (0, MAX_COUNT),
        "age_seconds": (0.0, MAX_SECONDS),
        "timeout_seconds": (0.0, _MAX_DOUBLE),
        "publish_interval_seconds": (0.0, MAX_SECONDS),
        "stamp": (-MAX_SECONDS, MAX_SECONDS),
    }
    progress = table.c.progress
    return (
        *_are_short(table),
        *(table.c[name].between(*ends) for name, ends in limits.items()),
        or_(progress.is_(None), progress.between(0, MAX_COUNT)),
    )


def _are_short(table: FromClause) -> Sequence[ColumnElement[bool]]:
    """Whether the names are no longer than they may be: in bytes where they are bytes."""
    names = (func.length(table.c[name]).between(1, 4 * MAX_NAME_LENGTH) for name in KEY[1:])
    phase = table.c.phase
    return *names, or_(phase.is_(None), func.length(phase) <= 4 * MAX_NAME_LENGTH)


def loose_reads_of(now: Number, namespace: str, max_rows: int, stamp: Of[Number]) -> Reads:
    """Return what reads from SQLite, where a column may hold anything, of any length.

    One value may be larger than all memory. To look for rows by their key reads them whole, to go
    through all of them reads no more than what is asked of each.
    """
    is_ours = _is_scanned(namespace)
    possible = and_(is_ours, *_are_of_their_type(TABLE), *are_beats(TABLE))
    beats = _fields(TABLE, stamp)
    last = func.coalesce(stamp(TABLE), -MAX_SECONDS)
    chosen = select(TABLE).where(is_ours).limit(bindparam("count")).offset(bindparam("first"))
    some = chosen.subquery()
    return Reads(
        beats=beats.where(TABLE.c.namespace == namespace).limit(max_rows + 1),
        total=_count(is_ours),
        possible=_count(possible),
        living=_living(beats.where(possible), last, max_rows),
        loose=Loose(
            size=_SQLITE_SIZE,
            short=beats.where(is_ours, *_are_small(TABLE)).limit(max_rows + 1),
            some=_fields(some, stamp).where(*_are_small(some)),
        ),
        clock=select(now),
    )


def too_long_of(namespace: str) -> Executable:
    """Return what counts the rows with a value that is too long, or fails because of one."""
    is_long = (func.length(column) > MAX_LENGTH for column in TABLE.c)
    return _count(and_(_is_scanned(namespace), or_(*is_long)))


def _is_scanned(namespace: str) -> ColumnElement[bool]:
    return literal_column("+namespace", String()) == namespace


def _are_small(table: FromClause) -> Sequence[ColumnElement[bool]]:
    """Whether all that is read is short. What is no number at all is more than each to SQLite."""
    numbers = [table.c[name] for name in _NUMBERS]
    largest = func.max(*numbers, func.coalesce(table.c.progress, 0))
    return *_are_short(table), largest <= _MAX_DOUBLE


def _are_of_their_type(table: FromClause) -> Sequence[ColumnElement[bool]]:
    types = {**dict.fromkeys(KEY[1:], "text"), **dict.fromkeys(_NUMBERS, "real")}
    types["publish_number"] = "integer"
    return (
        *(func.typeof(table.c[name]) == kind for name, kind in types.items()),
        func.typeof(table.c.phase).in_(("text", "null")),
        func.typeof(table.c.progress).in_(("integer", "null")),
    )
