"""Clients of redis-py for tests, typed: its own signatures are partly unknown to a type checker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry

from tests.processes import LOCALHOST


def async_redis(port: int, **options: Any) -> redis.asyncio.Redis:
    """An async client that tries a command once."""
    make: Any = redis.asyncio.Redis
    retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
    client: redis.asyncio.Redis = make(host=LOCALHOST, port=port, retry=retry, **options)
    return client


def sync_redis(port: int, **options: Any) -> redis.Redis:
    """A sync client that tries a command once."""
    make: Any = redis.Redis
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    client: redis.Redis = make(host=LOCALHOST, port=port, retry=retry, **options)
    return client


async def tell(client: redis.asyncio.Redis, *words: str | int) -> Any:
    """The answer to one command."""
    untyped: Any = client
    return await untyped.execute_command(*words)


async def aged(client: redis.asyncio.Redis, keys: Sequence[str], seconds: float) -> None:
    """Make the beats under these keys so much older, or with less than 0 of the future."""
    beats, kept, _, recent = keys
    for field, value in (await tell(client, "HGETALL", beats)).items():
        stamp, *published = json.loads(value)
        await tell(client, "HSET", beats, field, json.dumps([stamp - seconds, *published]))
        await tell(client, "ZINCRBY", kept, str(-seconds * 1_000), field)
        await tell(client, "ZINCRBY", recent, str(-seconds * 1_000), field)
