"""Clients of the application that are asked through frameworks, and engines that are told apart."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import sqlalchemy
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from cqrs_ddd_health import (
    CheckSettings,
    DatabaseHealthCheck,
    HealthRegistry,
    HealthSettings,
    RedisHealthCheck,
)
from cqrs_ddd_health.checks.callable import is_loop_bound
from tests.clients import async_redis, sync_redis


async def test_a_sync_endpoint_brings_the_loop_of_its_application() -> None:
    registry = HealthRegistry()
    engine = create_async_engine("sqlite+aiosqlite://")
    # As at import: no loop runs.
    await asyncio.to_thread(registry.register, "database", DatabaseHealthCheck(engine.connect))
    pending = (await asyncio.to_thread(registry.report_sync)).components[0]
    assert pending.failure is not None
    assert pending.failure.kind == "pending"
    api = FastAPI()

    @api.get("/health")
    def health() -> dict[str, str]:
        return {row.name: row.state for row in registry.report_sync().components}

    @api.get("/query")
    async def query() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(sqlalchemy.text("SELECT 1"))).scalar_one())

    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for _ in range(3):
            assert (await client.get("/query")).json() == 1
            assert (await client.get("/health")).json() == {"database": "up"}
    await engine.dispose()
    await registry.aclose()


def test_what_belongs_to_a_loop_is_known_by_its_library() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    assert is_loop_bound(DatabaseHealthCheck(engine.connect)) is True
    assert is_loop_bound(DatabaseHealthCheck(async_sessionmaker(engine))) is True
    sync_engine = sqlalchemy.create_engine("sqlite://")
    assert (
        is_loop_bound(DatabaseHealthCheck(sync_engine.connect)) is None
    )  # what it gives will tell
    assert is_loop_bound(RedisHealthCheck(async_redis(1))) is True
    with sync_redis(1) as client:
        assert is_loop_bound(RedisHealthCheck(client)) is False


def test_clients_of_the_settings_are_closed_without_a_loop_too(tmp_path: Path) -> None:
    file = tmp_path / "database.sqlite3"
    file.touch()
    url = SecretStr(f"sqlite+aiosqlite:///{file}")
    settings = HealthSettings(checks={"database": CheckSettings(url=url)})
    registry = HealthRegistry(settings=settings)
    registry.register_from_settings()
    before = set(threading.enumerate())
    assert registry.report_sync().components[0].state == "up"
    registry.close()
    assert set(threading.enumerate()) <= before
