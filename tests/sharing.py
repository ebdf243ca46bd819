"""A registry that reads a shared store, and what is waited for in its reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from cqrs_ddd_health import ComponentStatus, HealthRegistry, HealthReport, HealthSettings

__all__ = ["STORE", "WORKER", "is_gone", "reading", "state", "until"]

STORE, WORKER = "heartbeat_store", "outbox"


@asynccontextmanager
async def reading(
    url: str, namespace: str = "default", **settings: object
) -> AsyncGenerator[HealthRegistry]:
    """A registry that has no beats of its own."""
    said: Mapping[str, object] = {
        "heartbeat_store_url": url,
        "heartbeat_store_namespace": namespace,
        **settings,
    }
    registry = HealthRegistry(settings=HealthSettings.model_validate(said))
    try:
        yield registry
    finally:
        await registry.aclose()


async def until(
    registry: HealthRegistry,
    condition: Callable[[ComponentStatus | None], bool],
    name: str = WORKER,
    *,
    seconds: float = 20.0,
) -> HealthReport:
    """The first report whose row of that name is as wanted."""
    async with asyncio.timeout(seconds):
        while True:
            report = await registry.report()
            if condition(report.component(name)):
                return report
            await asyncio.sleep(0.05)


def state(*wanted: str) -> Callable[[ComponentStatus | None], bool]:
    """Whether a row is there, and in one of these states."""
    return lambda row: row is not None and row.state in wanted


def is_gone(row: ComponentStatus | None) -> bool:
    return row is None
