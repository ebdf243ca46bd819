"""The SQL heartbeat store on real databases."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.sql import SqlHeartbeatStore
from cqrs_ddd_health.heartbeats.sql_statements import TABLE
from cqrs_ddd_health.testing import HeartbeatStoreConformance
from tests.servers import shared_servers

DRIVERS = {"postgresql": ("asyncpg", "psycopg"), "mariadb": ("aiomysql",)}
URLS = [
    pytest.param(server.url_for(driver), id=f"{server.name}-{driver}")
    for server in shared_servers("postgresql", "mariadb")
    for driver in DRIVERS[server.name]
]


class TestConformance(HeartbeatStoreConformance):
    url: str

    @pytest.fixture(autouse=True, params=[pytest.param("sqlite", id="sqlite"), *URLS])
    def server(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.ahead_seconds = 0.0
        clock = time.clock_gettime

        def ahead(which: int) -> float:
            return clock(which) + self.ahead_seconds

        monkeypatch.setattr("time.clock_gettime", ahead)
        url: str = request.param
        self.url = f"sqlite+aiosqlite:///{tmp_path}/beats" if url == "sqlite" else url

    async def make_store(self) -> HeartbeatStore:
        return SqlHeartbeatStore(self.url, namespace=f"test-{uuid4()}")

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        assert isinstance(store, SqlHeartbeatStore)
        if "sqlite" in self.url:  # whose clock begins with the machine: nothing is older than that
            self.ahead_seconds += seconds
            return
        async with store._transaction() as connection:
            await connection.execute(update(TABLE).values(stamp=TABLE.c.stamp - seconds))
