"""Why a store could not be written to, in words that hold no secret.

A driver's class says little: an `OperationalError` is a wrong password or a server that became a
replica. What a server means is its code, wherever the driver, or SQLAlchemy around it, keeps that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["refusal_of"]

_READS, _STOPS, _FULL = "it takes no writes", "it is starting or stopping", "its disk is full"
_CLUSTER = "it is cut off from its cluster"

_REASONS = {
    # SQLSTATEs of PostgreSQL.
    "25006": _READS,
    **dict.fromkeys(("57P01", "57P02", "57P03"), _STOPS),
    "53100": _FULL,
    # Numbers of MySQL and MariaDB.
    **dict.fromkeys(("1290", "1792", "1836"), _READS),
    "1053": _STOPS,
    "1021": _FULL,
    "1047": _CLUSTER,
    # Names of SQLite.
    **dict.fromkeys(("SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY"), _READS),
    "SQLITE_READONLY_DBMOVED": "its file was moved or removed",
    "SQLITE_FULL": _FULL,
    # Words of Redis, or what redis-py makes of them. An error of a script has them further on.
    **dict.fromkeys(("READONLY", "ReadOnlyError"), _READS),
    **dict.fromkeys(("LOADING", "BusyLoadingError"), _STOPS),
    **dict.fromkeys(("OOM", "OutOfMemoryError"), "its memory is full"),
    "MISCONF": "it cannot save to its disk",
    "NOREPLICAS": "it has too few replicas",
    **dict.fromkeys(("CLUSTERDOWN", "ClusterDownError", "MasterDownError"), _CLUSTER),
}
_WORD = re.compile(r"\b[A-Z]{3,}\b")
_LOOKED_AT = 500
"""How many characters of a text are looked at."""


def refusal_of(error: BaseException) -> str:
    """Return the class of an error and, if the server said why it refuses, that."""
    name = type(error).__name__
    reason = next((_REASONS[mark] for mark in _marks(error) if mark in _REASONS), None)
    return name if reason is None else f"{name}, {reason}"


def _marks(error: BaseException) -> Iterator[str]:
    """Return all that may tell what it is, of the error and of those that it stands for."""
    seen: list[BaseException] = []
    inner: object = error
    while isinstance(inner, BaseException) and inner not in seen:
        seen.append(inner)
        yield type(inner).__name__
        for name in ("sqlstate", "sqlite_errorname"):
            yield str(getattr(inner, name, ""))
        yield from _words_of(inner.args[0]) if inner.args else ()
        inner = getattr(inner, "orig", None) or inner.__cause__


def _words_of(said: object) -> Sequence[str]:
    if isinstance(said, str):
        return _WORD.findall(said[:_LOOKED_AT])
    return (str(said),) if isinstance(said, int) else ()
