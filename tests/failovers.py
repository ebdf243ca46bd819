"""Two servers of a kind, of which one is the primary and the other its replica, and can be swapped.

In between neither takes writes, and connections to the one that was the primary stay open: what a
planned failover looks like to those who have them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clients import async_redis, tell
from tests.debian_servers import OwnMariaDb
from tests.processes import LOCALHOST
from tests.servers import OwnPostgres, OwnRedis

__all__ = ["PAIRS", "Pair", "pair_of"]


class Pair(Protocol):
    """Two servers."""

    refusal: str
    """What is said of one that takes no writes."""

    @property
    def port(self) -> int:
        """Where the primary is, or was until it was fenced."""
        ...

    def url(self, port: int) -> str:
        """Return the URL of a store at that port."""
        ...

    async def fence(self) -> None:
        """Have the primary take no writes any more."""
        ...

    async def promote(self) -> None:
        """Have the other one be the primary, and the first one follow it."""
        ...


class _RedisPair:
    refusal = "it takes no writes"

    def __init__(self, one: OwnRedis, other: OwnRedis) -> None:
        self._primary, self._replica = one, other

    @property
    def port(self) -> int:
        return self._primary.port

    def url(self, port: int) -> str:
        return f"redis://{LOCALHOST}:{port}/0"

    async def follow(self) -> None:
        await _redis(self._replica.port, "REPLICAOF", LOCALHOST, str(self._primary.port))
        while (await _redis(self._replica.port, "INFO"))["master_link_status"] != "up":
            await asyncio.sleep(0.05)

    async def fence(self) -> None:
        await _redis(self._primary.port, "REPLICAOF", LOCALHOST, str(self._replica.port))

    async def promote(self) -> None:
        await _redis(self._replica.port, "REPLICAOF", "NO", "ONE")
        self._primary, self._replica = self._replica, self._primary


async def _redis(port: int, *words: str) -> dict[str, str]:
    async with async_redis(port) as client:
        answer: dict[str, str] = await tell(client, *words)
        return answer


class _PostgresPair:
    """The one that was the primary is left as it is: a new standby takes its place."""

    refusal = "it takes no writes"

    def __init__(self, one: OwnPostgres, other: OwnPostgres, stack: AsyncExitStack) -> None:
        self._primary, self._standby, self._stack = one, other, stack

    @property
    def port(self) -> int:
        return self._primary.port

    def url(self, port: int) -> str:
        return f"postgresql+asyncpg://postgres@{LOCALHOST}:{port}/postgres"

    async def fence(self) -> None:
        await self._tell(
            self._primary,
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        )

    async def promote(self) -> None:
        await self._tell(self._standby, "SELECT pg_promote()")
        self._primary = self._standby
        new = OwnPostgres(self._primary)
        self._standby = await asyncio.to_thread(self._stack.enter_context, new)

    @staticmethod
    async def _tell(server: OwnPostgres, *statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as session:
            for statement in statements:
                await session.execute(statement.encode())


class _MariaDbPair:
    refusal = "OperationalError, it takes no writes"

    def __init__(self, one: OwnMariaDb, other: OwnMariaDb) -> None:
        self._primary, self._replica = one, other

    @property
    def port(self) -> int:
        return self._primary.port

    def url(self, port: int) -> str:
        return self._primary.url(port)

    async def follow(self) -> None:
        await self._tell(self._replica, "SET GLOBAL read_only = 1", *self._follows(self._primary))

    async def fence(self) -> None:
        await self._tell(self._primary, "SET GLOBAL read_only = 1")

    async def promote(self) -> None:
        await self._tell(self._replica, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
        self._primary, self._replica = self._replica, self._primary
        await self._tell(self._replica, *self._follows(self._primary))

    @staticmethod
    def _follows(primary: OwnMariaDb) -> tuple[str, str]:
        there = f"MASTER_HOST='{LOCALHOST}', MASTER_PORT={primary.port}, MASTER_USER='admin'"
        return f"CHANGE MASTER TO {there}, MASTER_USE_GTID=current_pos", "START SLAVE"

    @staticmethod
    async def _tell(server: OwnMariaDb, *statements: str) -> None:
        engine = create_async_engine(server.url(user="admin"), isolation_level="AUTOCOMMIT")
        async with engine.connect() as session:
            for statement in statements:
                await session.execute(text(statement))
        await engine.dispose()


@asynccontextmanager
async def _two_redis() -> AsyncGenerator[Pair]:
    with OwnRedis() as one, OwnRedis() as other:
        pair = _RedisPair(one, other)
        await pair.follow()
        yield pair


@asynccontextmanager
async def _two_postgres() -> AsyncGenerator[Pair]:
    async with AsyncExitStack() as stack:
        one = stack.enter_context(OwnPostgres())
        yield _PostgresPair(one, stack.enter_context(OwnPostgres(one)), stack)


@asynccontextmanager
async def _two_mariadb() -> AsyncGenerator[Pair]:
    with OwnMariaDb(1) as one, OwnMariaDb(2) as other:
        pair = _MariaDbPair(one, other)
        await pair.follow()
        yield pair


PAIRS: dict[str, Callable[[], AbstractAsyncContextManager[Pair]]] = {
    "redis": _two_redis,
    "postgresql": _two_postgres,
    "mariadb": _two_mariadb,
}


def pair_of(kind: str) -> AbstractAsyncContextManager[Pair]:
    """Return two running servers of a kind; they end with the block."""
    return PAIRS[kind]()
