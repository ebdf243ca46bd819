"""Asks one check the way an application does: through a registry, for a report."""

from __future__ import annotations

import asyncio

from cqrs_ddd_health import ComponentStatus, HealthRegistry
from cqrs_ddd_health.checks import Check
from cqrs_ddd_health.checks.connected import ConnectedCheck
from cqrs_ddd_health.checks.from_url import check_from_url

NAME = "it"


def registry_of(check: Check, *, timeout_seconds: float = 10.0) -> HealthRegistry:
    """A registry with that one check."""
    registry = HealthRegistry()
    registry.register(NAME, check, timeout_seconds=timeout_seconds)
    return registry


async def row_of(registry: HealthRegistry, name: str = NAME) -> ComponentStatus:
    """What a report made now says of one component."""
    row = (await registry.report()).component(name)
    assert row is not None
    return row


async def asked(check: Check, *, timeout_seconds: float = 10.0) -> ComponentStatus:
    """What a report says of a check that was never asked before."""
    return await row_of(registry_of(check, timeout_seconds=timeout_seconds))


async def asked_at(url: str) -> ComponentStatus:
    """What a report says of the check of a URL, whose client is closed after that."""
    check = check_from_url(url)
    assert isinstance(check, ConnectedCheck)
    try:
        return await asked(check)
    finally:
        await check.aclose()


async def kinds_of(registry: HealthRegistry, times: int) -> list[str]:
    """Why it is not up, asked so many times with the loop running on in between."""
    kinds: list[str] = []
    for _ in range(times):
        kinds.append(failure_of(await row_of(registry))[0])
        await asyncio.sleep(0.02)
    return kinds


def failure_of(row: ComponentStatus) -> tuple[str, str | None]:
    """Why it is not up: the kind, and the class of the exception."""
    assert row.failure is not None, row
    return row.failure.kind, row.failure.exception_type
