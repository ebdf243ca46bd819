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

from cqrs_ddd_health.clients.urls import builder_of, parts_of, require_bare
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.domain.protocols import HeartbeatStore
from cqrs_ddd_health.errors import InvalidOptionError

from .memory import MemoryHeartbeatStore
from .redis import RedisHeartbeatStore
from .sql.store import SqlHeartbeatStore

__all__ = ["store_from_url"]


def store_from_url(url: str, namespace: str) -> HeartbeatStore:
    """Return the store that `url` describes. It connects when it is first used.

    Raises:
        InvalidOptionError: if there is no such scheme, or the URL does not fit it.
        InvalidNameError: if the namespace is no name.
        ImportError: if the client library, or the driver, is not installed.
    """
    require_name(namespace, "namespace of heartbeats")
    build, url = builder_of(url, "heartbeat store", _BUILDERS, _sql)
    return build(url, namespace)


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
