"""The Redis heartbeat store on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from cqrs_ddd_health import HeartbeatStore, InvalidNameError, InvalidOptionError
from cqrs_ddd_health.heartbeats.redis import RedisHeartbeatStore
from cqrs_ddd_health.testing import HeartbeatStoreConformance
from tests.beats import GARBAGE_NAMES, beat, numbers
from tests.clients import aged, async_redis, tell
from tests.servers import OwnRedis, shared_servers
from tests.store_cases import SharedStoreCases

OURS = "own"
PLACES = [
    pytest.param(OURS, id=OURS),
    *(pytest.param(server.url, id="shared") for server in shared_servers("redis")),
]


class Place:
    """A Redis, a namespace of its own in it, and what the tests do there behind our back."""

    def __init__(self, url: str, client: redis.asyncio.Redis) -> None:
        self.url = url
        self.client = client
        self.namespace = f"test-{uuid4()}"
        self.beats, self.kept, self.last = (
            f"{{cqrs-health:{self.namespace}}}:{what}" for what in ("beats", "kept", "last")
        )
        self._stores: list[RedisHeartbeatStore] = []

    def store(self, namespace: str = "", query: str = "", **options: Any) -> RedisHeartbeatStore:
        store = RedisHeartbeatStore(
            self.url + query, namespace=self.namespace + namespace, **options
        )
        self._stores.append(store)
        return store

    async def tell(self, *words: str | int) -> Any:
        return await tell(self.client, *words)

    async def keys(self) -> list[str]:
        found: list[bytes] = await self.tell("KEYS", f"{{cqrs-health:{self.namespace}*")
        return sorted(key.decode() for key in found)

    async def expire(self, *instances: str, worker: str = "worker") -> None:
        """Let it be the time at which these may be removed."""
        for instance in instances:
            await self.tell("ZADD", self.kept, 1, f"{worker}\n{instance}\ntoken")

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        for key in await self.keys():
            await self.tell("DEL", key)
        await self.client.aclose()


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, own_redis: OwnRedis) -> AsyncGenerator[Place]:
    url: str = own_redis.url if request.param == OURS else request.param
    place = Place(url, async_redis(int(url.rpartition(":")[2].partition("/")[0])))
    yield place
    own_redis.recover()
    await place.close()


@pytest.fixture
async def own(own_redis: OwnRedis) -> AsyncGenerator[Place]:
    place = Place(own_redis.url, async_redis(own_redis.port))
    yield place
    own_redis.recover()
    await place.close()


class TestConformance(HeartbeatStoreConformance):
    @pytest.fixture(autouse=True)
    def use(self, place: Place) -> None:
        self.place = place

    async def make_store(self) -> HeartbeatStore:
        return self.place.store(str(uuid4())[:8])

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        assert isinstance(store, RedisHeartbeatStore)
        await aged(self.place.client, store._keys, seconds)


class TestShared(SharedStoreCases):
    pass


# --- what is published


async def test_an_empty_publish_leaves_no_key(place: Place) -> None:
    await place.store().publish([])
    assert await place.keys() == []


# --- what is read


GOOD: list[object] = [1.5, "worker", "instance", "token", 1, 1.5, 60.0, 5.0, None, None]
GARBAGE = [
    "",
    "[",
    "null",
    "{}",
    "[]",
    '"worker"',
    "[" * 8_000,
    "9" * 5_000,
    json.dumps(GOOD[:-1]),
    json.dumps([*GOOD, 1]),
    json.dumps([None, *GOOD[1:]]),
    json.dumps(["1.5", *GOOD[1:]]),
    json.dumps([float("nan"), *GOOD[1:]]),
    json.dumps([-1e11, *GOOD[1:]]),
    json.dumps([*GOOD[:5], float("inf"), *GOOD[6:]]),
    json.dumps([*GOOD[:5], -0.5, *GOOD[6:]]),
    json.dumps([*GOOD[:5], True, *GOOD[6:]]),
    json.dumps([*GOOD[:6], float("nan"), *GOOD[7:]]),
    json.dumps([*GOOD[:4], True, *GOOD[5:]]),
    json.dumps([*GOOD[:4], 10**400, *GOOD[5:]]),
    json.dumps([*GOOD[:8], "a\nb", None]),
    json.dumps([*GOOD[:8], ["a"], None]),
    json.dumps([*GOOD[:9], 2**53]),
    json.dumps(GOOD) + " " * 8_192,
    *(json.dumps([1.5, name, *GOOD[2:]]) for name in (*GARBAGE_NAMES, "\ud800", 7)),
]


@pytest.mark.parametrize("query", ["", "?decode_responses=True", "?protocol=3"])
async def test_values_that_nobody_published_are_counted_and_spoil_no_other(
    place: Place, query: str
) -> None:
    store = place.store(query=query)
    await store.publish([beat()])
    for number, value in enumerate(GARBAGE):
        await place.tell("HSET", place.beats, f"{number}", value)
    untyped: Any = place.client
    await untyped.hset(place.beats, b"\xff", b"\xff")
    read = await store.read()
    assert [held.worker for held in read.beats] == ["worker"]
    assert read.dropped == len(GARBAGE) + 1


async def test_each_of_them_alone_spoils_no_other(place: Place) -> None:
    store = place.store()
    await store.publish([beat()])
    good = json.dumps([1.5, *GOOD[1:]])
    for value in [*GARBAGE, f"{good},{good}"]:
        await place.tell("HSET", place.beats, "garbage", value)
        read = await store.read()
        assert ([held.worker for held in read.beats], read.dropped) == (["worker"], 1), value


async def test_fields_that_nobody_published_are_no_obstacle(place: Place) -> None:
    store = place.store()
    await store.publish([beat()])
    for field in ("", "\n", "worker", "[" * 9_000):
        await place.tell("ZADD", place.kept, 1, field)
        await place.tell("HSET", place.beats, field, "x")
    await store.publish([beat(publish_number=2)])
    read = await store.read()
    assert (set(numbers(read).values()), read.dropped) == ({2}, 0)


async def test_of_too_many_those_that_are_kept_longest_are_read_and_the_rest_is_counted(
    place: Place,
) -> None:
    store = place.store(max_rows=1_500)
    await store.publish([beat(instance=f"{number}") for number in range(2_000)])
    await store.publish([beat("slow", timeout_seconds=600.0)])
    read = await store.read()
    assert (len(read.beats), read.dropped) == (1_500, 501)
    assert "slow" in {held.worker for held in read.beats}


async def test_of_too_many_those_that_are_gone_meanwhile_are_counted(place: Place) -> None:
    store = place.store(max_rows=2)
    await store.publish([beat(instance=f"{number}") for number in range(4)])
    await place.tell("DEL", place.kept)
    assert (await store.read())[1:] == ([], 4)
    await place.tell("ZADD", place.kept, 1, "nobody")
    assert (await store.read())[1:] == ([], 4)


# --- what is removed


async def test_no_key_is_without_an_expiry_and_none_is_shortened(place: Place) -> None:
    store = place.store()
    await store.publish([beat(timeout_seconds=600.0)])
    await store.publish([beat("other", timeout_seconds=1.0)])
    assert await place.keys() == sorted([place.beats, place.kept, place.last])
    for key in await place.keys():
        assert 9_500 < await place.tell("TTL", key) <= 9_600
    for key in await place.keys():
        await place.tell("PERSIST", key)
    await store.publish([beat("other", timeout_seconds=1e300)])
    for key in await place.keys():
        assert await place.tell("TTL", key) > 3_600


async def test_beats_of_the_long_gone_are_removed_so_many_at_once(place: Place) -> None:
    store = place.store()
    instances = [f"{number}" for number in range(701)]
    await store.publish([beat(instance=instance) for instance in instances])
    await place.expire(*instances[:-1])
    for left in (201, 1, 1):
        await store.publish([beat("other")])
        read = await store.read()
        assert sum(held.worker == "worker" for held in read.beats) == left
    assert await place.tell("ZCARD", place.kept) == 2


async def test_the_beat_of_a_worker_that_was_published_last_is_never_removed(
    place: Place,
) -> None:
    store = place.store()
    await store.publish([beat(instance="1"), beat(instance="2"), beat("alone", "1")])
    await store.publish([beat(instance="1", publish_number=2)])
    await place.expire("1", "2")
    await place.expire("1", worker="alone")
    await store.publish([beat("other")])
    left = {held[:2] for held in (await store.read()).beats}
    assert left == {("worker", "1"), ("alone", "1"), ("other", "instance")}
    # It is not looked at again by each publish.
    assert await place.tell("ZCOUNT", place.kept, "-inf", 1) == 0


async def test_what_is_retired_leaves_nothing(place: Place) -> None:
    store = place.store()
    await store.publish([beat(instance="1"), beat(instance="2")])
    await store.retire("worker", "1", "token")
    assert await place.tell("HLEN", place.last) == 1
    await store.retire("worker", "2", "token")
    assert await place.keys() == []


# --- connections


async def test_a_process_that_begins_leaves_the_parents_connection(place: Place) -> None:
    store = place.store()
    await store.publish([beat()])
    (parents,) = store._clients._clients.values()
    store.begin_process()
    await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {2}
    assert await parents.execute_command("PING")
    await parents.aclose()


async def test_a_restart_of_the_server_between_two_publishes_is_no_failure(
    own: Place, own_redis: OwnRedis
) -> None:
    store = own.store()
    await store.publish([beat()])
    own_redis.stop()
    with pytest.raises((RedisConnectionError, OSError)):
        await store.publish([beat(publish_number=2)])
    own_redis.start()
    assert (await store.read()).beats == []
    await store.publish([beat(publish_number=3)])
    own_redis.restart()
    await store.publish([beat(publish_number=4)])
    assert set(numbers(await store.read()).values()) == {4}


async def test_scripts_that_the_server_has_forgotten_are_said_again(own: Place) -> None:
    store = own.store()
    await store.publish([beat()])
    await own.tell("SCRIPT", "FLUSH")
    await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {2}


async def test_an_emptied_server_is_filled_again(own: Place) -> None:
    store = own.store()
    await store.publish([beat()])
    await own.tell("FLUSHALL")
    assert (await store.read()).beats == []
    await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {2}


async def test_a_server_that_may_not_be_written_to_is_its_own_error(own: Place) -> None:
    store = own.store()
    await store.publish([beat()])
    await own.tell("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ResponseError):
        await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {1}
    await own.tell("CONFIG", "SET", "maxmemory", 0)
    await store.publish([beat(publish_number=3)])
    assert set(numbers(await store.read()).values()) == {3}


async def test_cut_off_while_the_server_is_frozen_the_next_answer_is_the_right_one(
    own: Place, own_redis: OwnRedis
) -> None:
    store = own.store()
    await store.publish([beat()])
    own_redis.freeze()
    for _ in range(3):
        cut_off = asyncio.create_task(store.read())
        await asyncio.sleep(0.05)
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
    own_redis.thaw()
    await store.publish([beat(publish_number=2)])
    await store.retire("nobody", "instance", "token")
    assert set(numbers(await store.read()).values()) == {2}


# --- what is refused


def test_options_that_cannot_be() -> None:
    with pytest.raises(InvalidNameError):
        RedisHeartbeatStore("redis://host", namespace="")
    with pytest.raises(InvalidOptionError, match="max_rows"):
        RedisHeartbeatStore("redis://host", max_rows=0)
    with pytest.raises(InvalidOptionError, match="it may be of redis, rediss, unix"):
        RedisHeartbeatStore("http://host")
