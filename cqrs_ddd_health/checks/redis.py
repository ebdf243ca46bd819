"""Is Redis there: `PING` through the application's own client."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from inspect import isawaitable, iscoroutinefunction
from typing import Protocol, cast

from cqrs_ddd_health.clients.writability import CONFIGURATION, refusal_of_redis
from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_bool
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.threads import require_owner_loop, run_blocking

from .libraries import comes_from

__all__ = ["RedisHealthCheck"]


class _PingClient(Protocol):
    def ping(self) -> object: ...


class RedisHealthCheck:
    """Calls `ping()` of `redis_client`: redis-py's async or sync client, or one's own.

    A sync `ping` is called on a daemon thread. From redis-py it also learns the server's version,
    by one `INFO server` after each connect that it sees fail or begin; an account without the
    right to ask is no failure. A node of a cluster answers PING while it refuses everything else:
    it is asked for `CLUSTER INFO` too, and down unless the state of the cluster is ok.

    With `writable` one that takes no writes is down as well: a replica, or one whose memory is full
    or that cannot save. That is read from `INFO`, which the account then has to be allowed;
    nothing is written.

    `check()` raises what the client raises; calling the check itself gives true or false.

    Raises:
        InvalidOptionError: if `writable` is no bool, or the client has no `info` to ask.
    """

    def __init__(self, redis_client: _PingClient, *, writable: bool = False) -> None:
        if require_bool("writable", writable) and not callable(getattr(redis_client, "info", None)):
            raise InvalidOptionError(
                f"writable=True needs a client with info(), and {type(redis_client).__name__} has "
                "none"
            )
        self._client = redis_client
        self._writable = writable
        self._version: str | None = None
        self._is_cluster = False
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
            await self._ask_server()
        refusal = await self._refusal()
        self._asked = True
        known = {"server_version": self._version, "pool": _pool_numbers(self._client)}
        details = {key: value for key, value in known.items() if value}
        if refusal is not None:
            return CheckResult(state="down", message=refusal, details=details)
        return CheckResult(details=details)

    async def _ask_server(self) -> None:
        self._version, self._is_cluster = None, False
        if not comes_from(self._client, "redis"):
            return
        try:
            info = cast("Mapping[str, object]", await _call(self._client, "info", "server"))
            self._version = str(info["redis_version"])
            self._is_cluster = info.get("redis_mode") == "cluster"
        except Exception:  # an account that may PING and nothing else is healthy
            return

    async def _refusal(self) -> str | None:
        """Return why it takes no command, or no write if it should."""
        state = await self._cluster_state() if self._is_cluster else "ok"
        if state != "ok":
            return f"the state of its cluster is {state}: it refuses every command"
        if not self._writable:
            return None
        info = cast("Mapping[str, object]", await _call(self._client, "info"))
        return refusal_of_redis(info, await self._settings())

    async def _cluster_state(self) -> str:
        try:
            answer = await _call(self._client, "execute_command", "CLUSTER INFO")
        except Exception as error:
            if type(error).__name__ != "NoPermissionError":
                raise
            return "ok"  # as far as this account can know
        return str(cast("Mapping[str, str]", answer).get("cluster_state"))

    async def _settings(self) -> Mapping[str, str]:
        settings: dict[str, str] = {}
        try:
            for name in CONFIGURATION:
                found = cast("Mapping[str, str]", await _call(self._client, "config_get", name))
                settings.update(found)
        except Exception:  # an account that may not read them
            return {}
        return settings


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
