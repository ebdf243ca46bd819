"""Where a block of the contract is run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY, Gauge
from redis.asyncio import Redis

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.testing import FakeClock, clean_registry
from tests.documents import Block, Namespace
from tests.given import SessionFactory, database, redis_client
from tests.servers import OwnRedis

NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)


@dataclass
class Stage:
    """A clean default registry, whose clock stands at the contract's noon, and real clients."""

    clock: FakeClock
    sessions: SessionFactory
    no_sessions: SessionFactory
    """Sessions of a database that cannot be opened."""
    redis: OwnRedis
    redis_client: Redis
    namespaces: list[Namespace] = field(default_factory=list[Namespace])

    @property
    def health(self) -> HealthRegistry:
        return HealthRegistry.get_instance()

    async def run(self, block: Block, /, **given: Any) -> SimpleNamespace:
        """Run the block with these names and no others; return what it defines."""
        self.namespaces.append(given)
        await block.run(given)
        return SimpleNamespace(**given)

    def clear(self) -> None:
        """Take the gauges that blocks have made out of the process's metrics."""
        for value in (value for names in self.namespaces for value in names.values()):
            if isinstance(value, Gauge):
                REGISTRY.unregister(value)


@asynccontextmanager
async def stage_in(directory: Path, redis: OwnRedis) -> AsyncGenerator[Stage]:
    async with AsyncExitStack() as stack:
        stack.enter_context(clean_registry())
        clock = FakeClock(NOON)
        HealthRegistry.set_instance(HealthRegistry(clock=clock))
        stage = Stage(
            clock=clock,
            sessions=await stack.enter_async_context(database(directory / "app.sqlite3")),
            no_sessions=await stack.enter_async_context(database(directory / "no" / "app.sqlite3")),
            redis=redis,
            redis_client=await stack.enter_async_context(redis_client(redis.port)),
        )
        stack.callback(stage.clear)
        yield stage
