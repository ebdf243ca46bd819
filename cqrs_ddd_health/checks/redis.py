"""Is Redis there: `PING` through the application's own client."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from inspect import isawaitable, iscoroutinefunction
from typing import Protocol, cast

from cqrs_ddd_health.models import CheckResult
from cqrs_ddd_health.threads import require_owner_loop, run_blocking

from .libraries import comes_from

__all__ = ["RedisHealthCheck"]


class _PingClient(Protocol):
    def ping(self) -> object: ...


class RedisHealthCheck:
    """Calls `ping()` of `redis_client`: redis-py's async or sync client, or one's own.

    A sync `ping` is called on a daemon thread. From redis-py it also learns the server's version,
    by one `INFO server` after each connect that it sees fail or begin; an account without the
    right to ask is no failure.

    `check()` raises what the client raises; calling the check itself gives true or false.
    """

    def __init__(self, redis_client: _PingClient) -> None:
        self._client = redis_client
        self._version: str | None = None
        self._asked = False

    @property
    def loop_bound(self) -> bool | None:
        """Whether the client belongs to an event loop; None if what `ping` returns will tell."""
        if _is_async(self._client, "ping"):
            return True
        return False if comes_from(self._client, "redis") else None

    async def __call__(self) -> bool:
        """Return whether Redis answered with something true; whatever it raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return what Redis tells of itself; raises what the client raises."""
        asked, self._asked = self._asked, False
        if not await _call(self._client, "ping"):
            return CheckResult(state="down", message="PING was answered with something false")
        if not asked:
            self._version = await self._ask_version()
        self._asked = True
        details = {"server_version": self._version, "pool": _pool_numbers(self._client)}
        return CheckResult(details={key: value for key, value in details.items() if value})

    async def _ask_version(self) -> str | None:
        if not comes_from(self._client, "redis"):
            return None
        try:
            info = cast("Mapping[str, object]", await _call(self._client, "info", "server"))
            return str(info["redis_version"])
        except Exception:  # an account that may PING and nothing else is healthy
            return None


async def _call(client: object, name: str, *arguments: str) -> object:
    method = getattr(client, name)
    if _is_async(client, name):
        return await method(*arguments)
    answer: object = await run_blocking(lambda: method(*arguments))
    if isawaitable(answer):
        require_owner_loop(answer)
        return await answer
    return answer


def _is_async(client: object, name: str) -> bool:
    """Whether that method is to be awaited: redis-py's are plain functions of coroutines."""
    return comes_from(client, "redis.asyncio") or iscoroutinefunction(getattr(client, name, None))


def _pool_numbers(client: object) -> dict[str, int]:
    """Redis-py publishes only the limit; how many are in use is read where the class keeps it."""
    pool = getattr(client, "connection_pool", None)
    limit = getattr(pool, "max_connections", None)
    in_use = getattr(pool, "_in_use_connections", None)
    idle = getattr(pool, "_available_connections", None)
    return {
        **({"max_connections": limit} if isinstance(limit, int) else {}),
        **({"in_use": len(in_use)} if isinstance(in_use, Sized) else {}),
        **({"idle": len(idle)} if isinstance(idle, Sized) else {}),
    }
