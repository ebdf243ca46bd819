"""The Redis heartbeat store on real servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.redis import RedisHeartbeatStore
from cqrs_ddd_health.testing import HeartbeatStoreConformance
from tests.clients import async_redis, tell
from tests.servers import OwnRedis


class TestConformance(HeartbeatStoreConformance):
    @pytest.fixture(autouse=True)
    def server(self, own_redis: OwnRedis) -> None:
        self.url = own_redis.url

    async def make_store(self) -> HeartbeatStore:
        return RedisHeartbeatStore(self.url, namespace=f"test-{uuid4()}")

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        assert isinstance(store, RedisHeartbeatStore)
        await aged(self.url, store._keys, seconds)


async def aged(url: str, keys: Sequence[str], seconds: float) -> None:
    """Make what a store holds so much older: a negative number makes it come from the future."""
    beats, kept, _ = keys
    async with async_redis(urlsplit(url).port or 0) as client:
        for field, value in (await tell(client, "HGETALL", beats)).items():
            stamp, *published = json.loads(value)
            await tell(client, "HSET", beats, field, json.dumps([stamp - seconds, *published]))
            await tell(client, "ZINCRBY", kept, str(-seconds * 1_000), field)
