"""Heartbeat stores from URLs: what `CQRS_HEALTH_HEARTBEAT_STORE_URL` can say.

| URL | where beats are shared |
| --- | --- |
| `memory://` | nowhere: they stay in the process |
| `sqlite+aiosqlite:///file` | between processes of one host |
| `postgresql+asyncpg://`, `postgresql+psycopg://` | in PostgreSQL |
| `mysql+aiomysql://`, `mysql+asyncmy://`, `mariadb+aiomysql://` | in MySQL 8 or MariaDB 10.6 |
| `redis://`, `rediss://`, `unix:///socket` | in Redis |

No error says anything of a URL but its scheme: whatever else it holds may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from cqrs_ddd_health.checks.urls import parts_of, require_bare, scheme_of
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.names import require_name
from cqrs_ddd_health.protocols import HeartbeatStore

from .memory import MemoryHeartbeatStore
from .redis import RedisHeartbeatStore
from .sql import SqlHeartbeatStore

__all__ = ["store_from_url"]


def store_from_url(url: str, namespace: str) -> HeartbeatStore:
    """Return the store that `url` describes. It connects when it is first used.

    Raises:
        InvalidOptionError: if there is no such scheme, or the URL does not fit it.
        InvalidNameError: if the namespace is no name.
        ImportError: if the client library, or the driver, is not installed.
    """
    require_name(namespace, "namespace of heartbeats")
    if not url:
        raise InvalidOptionError("it is empty")
    scheme = scheme_of(url)
    plain = scheme.partition("+")[0]
    build = _BUILDERS.get(plain)
    if build is None or (scheme != plain and build is not _sql):
        raise InvalidOptionError(_unsupported(scheme if "://" in url else ""))
    return build(f"{scheme}{url[len(scheme) :]}", namespace)


def _unsupported(scheme: str) -> str:
    known = f"it may be one of {', '.join(_BUILDERS)}"
    if not scheme:
        return f"it has no scheme; {known}"
    close = get_close_matches(scheme.partition("+")[0], _BUILDERS, n=1)
    hint = f", did you mean {close[0]}?" if close else f"; {known}"
    return f"there is no heartbeat store for {scheme}://{hint}"


def _memory(url: str, _: str) -> HeartbeatStore:
    parts = parts_of(url)
    require_bare(parts)
    if parts.netloc:
        raise InvalidOptionError("it must be memory:// and nothing else")
    return MemoryHeartbeatStore()


def _sql(url: str, namespace: str) -> HeartbeatStore:
    return SqlHeartbeatStore(url, namespace=namespace)


def _redis(url: str, namespace: str) -> HeartbeatStore:
    return RedisHeartbeatStore(url, namespace=namespace)


_BUILDERS: Mapping[str, Callable[[str, str], HeartbeatStore]] = {
    "memory": _memory,
    **dict.fromkeys(("postgresql", "postgres", "mysql", "mariadb", "sqlite"), _sql),
    **dict.fromkeys(("redis", "rediss", "unix"), _redis),
}
