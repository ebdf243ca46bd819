"""The SQL heartbeat store on real databases."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.sql import SqlHeartbeatStore
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
    def server(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        url: str = request.param
        self.url = f"sqlite+aiosqlite:///{tmp_path}/beats" if url == "sqlite" else url

    async def make_store(self) -> HeartbeatStore:
        return SqlHeartbeatStore(self.url, namespace=f"test-{uuid4()}")
