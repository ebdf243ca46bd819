"""The Redis heartbeat store on real servers."""

from __future__ import annotations

from uuid import uuid4

import pytest

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.redis import RedisHeartbeatStore
from cqrs_ddd_health.testing import HeartbeatStoreConformance
from tests.servers import OwnRedis


class TestConformance(HeartbeatStoreConformance):
    @pytest.fixture(autouse=True)
    def server(self, own_redis: OwnRedis) -> None:
        self.url = own_redis.url

    async def make_store(self) -> HeartbeatStore:
        return RedisHeartbeatStore(self.url, namespace=f"test-{uuid4()}")
