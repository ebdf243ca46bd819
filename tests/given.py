"""What the code blocks of the documents take for granted: an application's clients.

The database and the Redis are real, the others do as they are told. Nothing leaves this machine.
"""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import httpx
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.clients import async_redis

SessionFactory: TypeAlias = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def database(file: Path) -> AsyncGenerator[SessionFactory]:
    """Sessions of a SQLite file."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    try:
        yield async_sessionmaker(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def redis_client(port: int) -> AsyncGenerator[Redis]:
    """An async client of the Redis at that port."""
    client = async_redis(port)
    try:
        yield client
    finally:
        await client.aclose()


@dataclass(frozen=True)
class ConnectedBroker:
    """A broker's client that only knows whether it is connected."""

    connected: bool = True

    async def is_connected(self) -> bool:
        return self.connected


@dataclass(frozen=True)
class Broker(ConnectedBroker):
    """A broker's client that asks the broker as well."""

    healthy: bool = True

    async def health_check(self) -> bool:
        return self.healthy


@dataclass
class Elasticsearch:
    """A search engine's client; an exception is raised."""

    answer: bool | Exception = True

    async def ping(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class Internet:
    """Stands for the module `httpx`: its client reaches one fake host and no network."""

    answer: int | Exception = 200
    requests: list[httpx.Request] = field(default_factory=list[httpx.Request])

    @property
    def module(self) -> types.SimpleNamespace:
        client = functools.partial(httpx.AsyncClient, transport=httpx.MockTransport(self._handle))
        return types.SimpleNamespace(AsyncClient=client)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(self.answer)


@dataclass
class Disk:
    """Stands for the module `shutil`, with a disk that can be filled."""

    free: int
    asked: list[str] = field(default_factory=list[str])

    def disk_usage(self, path: str) -> types.SimpleNamespace:
        self.asked.append(path)
        return types.SimpleNamespace(total=10**12, used=10**12 - self.free, free=self.free)


NextHandler: TypeAlias = Callable[[], Awaitable[Any]]


class Hook(Protocol):
    async def __call__(
        self, operation: str, attributes: Mapping[str, Any], next_handler: NextHandler, /
    ) -> Any: ...


class HookRegistry:
    """Stands for the one of `cqrs_ddd_core`: wraps each operation in the hooks it matches."""

    def __init__(self) -> None:
        self._hooks: list[tuple[int, Hook, tuple[str, ...]]] = []

    def register(
        self,
        hook: Hook,
        *,
        priority: int = 0,
        predicate: Callable[[str], bool] | None = None,
        operations: Iterable[str] | None = None,
        message_types: Iterable[type] | None = None,
        enabled: bool = True,
    ) -> None:
        assert predicate is None
        assert message_types is None
        assert enabled
        self._hooks.append((priority, hook, tuple(operations or "*")))

    async def run(self, operation: str, handler: NextHandler) -> Any:
        """Do the operation, through every hook whose patterns it matches."""
        for _, hook, patterns in sorted(self._hooks, key=lambda entry: entry[0]):
            if any(fnmatchcase(operation, pattern) for pattern in patterns):
                handler = functools.partial(hook, operation, {}, handler)
        return await handler()

    def module(self) -> types.ModuleType:
        """A `cqrs_ddd_core` that has this one."""
        module = types.ModuleType("cqrs_ddd_core")
        vars(module)["get_hook_registry"] = lambda: self
        return module
