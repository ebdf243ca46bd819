"""Whether a server takes writes, told from what it says of itself: nothing is written to find out.

A replica, and a primary that was demoted, answer each PING and `SELECT 1`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

__all__ = ["CONFIGURATION", "SQL", "refusal_of_redis", "refusal_of_sql"]

_Rows: TypeAlias = "Sequence[Sequence[object]]"

_MYSQL = (
    "SHOW VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only', "
    "'transaction_read_only', 'tx_read_only')"
)
SQL: Mapping[str, Sequence[str]] = {
    "postgresql": ("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')",),
    "mysql": (_MYSQL,),
    "mariadb": (_MYSQL,),
    "sqlite": ("PRAGMA query_only", "PRAGMA database_list"),
}
"""What to ask, by the name that SQLAlchemy gives a database."""


def refusal_of_sql(database: str, answers: Sequence[_Rows]) -> str | None:
    """Return why a database takes no writes, by its answers to `SQL`, or None if it does."""
    if database == "postgresql":
        ((is_standby, read_only),) = answers[0]
        if is_standby:
            return "it is a standby, which takes no writes"
        return "its transactions are read-only" if read_only != "off" else None
    if database == "sqlite":
        ((query_only,),), databases = answers
        return "query_only is on" if query_only else _refusal_of_files(databases)
    on = [str(name) for name, value in answers[0] if str(value).upper() not in {"0", "OFF"}]
    return f"it takes no writes: {', '.join(sorted(on))} is on" if on else None


def _refusal_of_files(databases: _Rows) -> str | None:
    """The directory counts too: the journal is made there."""
    files = [Path(str(file)) for _, name, file in databases if name == "main" and file]
    wanted = (path for file in files for path in (file, file.parent))
    return None if all(os.access(path, os.W_OK) for path in wanted) else "its file is read-only"


CONFIGURATION = ("stop-writes-on-bgsave-error", "save", "min-replicas-to-write")
"""Settings of Redis that decide where INFO alone does not; not every account may read them."""


def refusal_of_redis(info: Mapping[str, object], settings: Mapping[str, str]) -> str | None:
    """Return why a Redis takes no writes, by its INFO and settings, or None if it does."""
    if info.get("role") == "slave":
        return "it is a replica, which takes no writes"
    most = _number(info.get("maxmemory"))
    if info.get("maxmemory_policy") == "noeviction" and 0 < most <= _number(info["used_memory"]):
        return "its memory is full, and maxmemory-policy is noeviction"
    if info.get("aof_enabled") and info.get("aof_last_write_status") == "err":
        return "it cannot write its append-only file"
    if info.get("rdb_last_bgsave_status") == "err" and _stops_for_snapshots(settings):
        return "its last snapshot failed, and stop-writes-on-bgsave-error is on"
    good = info.get("min_slaves_good_slaves")  # which is there if any are asked for
    if good is not None and _number(good) < _number(settings.get("min-replicas-to-write", 1)):
        return "fewer replicas are connected than min-replicas-to-write asks for"
    return None


def _stops_for_snapshots(settings: Mapping[str, str]) -> bool:
    """What cannot be read is taken for Redis's own default."""
    stops = settings.get("stop-writes-on-bgsave-error", "yes") == "yes"
    return stops and settings.get("save") != ""


def _number(said: object) -> float:
    return float(str(said)) if said is not None else 0.0
