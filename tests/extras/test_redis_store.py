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

from cqrs_ddd_health import HeartbeatStore, InvalidNameError, InvalidOptionError, StoredBeat
from cqrs_ddd_health.heartbeats.stores.redis import RedisHeartbeatStore
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
        self.beats, self.kept, self.last, self.recent = (
            f"{{cqrs-health:{self.namespace}}}:{what}"
            for what in ("beats", "kept", "last", "recent")
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


def jobs(count: int) -> list[StoredBeat]:
    """Of which the beats stay for long after they were killed."""
    return [beat("job", f"{number}", timeout_seconds=3_600.0) for number in range(count)]


async def test_of_too_many_those_that_were_published_last_are_read_and_the_rest_is_counted(
    place: Place,
) -> None:
    store = place.store(max_rows=20)
    await store.publish([beat("lives"), *jobs(40)])
    await aged(place.client, store._keys, 10)
    await store.publish([beat("lives", publish_number=2)])
    read = await store.read()
    assert numbers(read)["lives", "instance", "token"] == 2
    assert (len(read.beats), read.dropped, read.unread) == (20, 21, 21)


@pytest.mark.parametrize("seconds", [100, -100])
async def test_more_than_one_step_of_them_that_were_published_at_another_time(
    place: Place, seconds: int
) -> None:
    """Long ago; or later than now, as it seems where the clock was set back since."""
    store = place.store(max_rows=1_500)
    await store.publish(jobs(2_000))
    shift = "for _, field in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
    shift += "redis.call('ZINCRBY', KEYS[1], ARGV[1], field) end"
    for key in (place.recent, place.kept):
        await place.tell("EVAL", shift, 1, key, -1_000 * seconds)
    await store.publish([beat("lives")])
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread) == (1_500, 501, 501)
    assert "lives" in {held.worker for held in read.beats}


async def test_fields_without_a_value_take_nobodys_place(place: Place) -> None:
    store = place.store(max_rows=3)
    await store.publish([beat("lives"), *jobs(2)])
    seconds, _ = await place.tell("TIME")
    ghosts = [word for n in range(400) for word in (int(seconds) * 1_000, f"ghost {n}")]
    for key in (place.recent, place.kept):
        await place.tell("ZADD", key, *ghosts)
    for number in range(400):  # and values without an entry, so that there are too many
        await place.tell("HSET", place.beats, f"no entry {number}", "x")
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread) == (3, 400, 0)


async def test_no_more_fields_are_looked_at_than_some_for_each_value(place: Place) -> None:
    store = place.store(max_rows=1)
    await store.publish(jobs(2))
    ghosts = [word for n in range(1_200) for word in ("1e300", f"ghost {n}")]
    await place.tell("ZADD", place.kept, *ghosts)
    await place.tell("DEL", place.recent)
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread > 0) == (0, 2, True)


async def test_a_value_that_is_too_long_does_not_leave_the_server(own: Place) -> None:
    store = own.store()
    await store.publish([beat()])
    for number in range(5):
        await own.tell("HSET", own.beats, f"{number}", "x" * 5_000_000)
        await own.tell("ZADD", own.kept, 2**53, f"{number}")

    async def sent() -> int:
        stats: dict[str, int] = await own.tell("INFO", "stats")
        return stats["total_net_output_bytes"]

    before = await sent()
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread) == (1, 5, 0)
    assert await sent() - before < 100_000


async def test_values_of_too_many_bytes_together_are_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cqrs_ddd_health.heartbeats.stores.redis.MAX_BYTES", 1_000)
    store = place.store()
    await store.publish(jobs(40))
    await aged(place.client, store._keys, 10)
    await store.publish([beat("lives")])
    read = await store.read()
    assert "lives" in {held.worker for held in read.beats}
    assert len(read.beats) < 20
    assert read.unread == read.dropped == 41 - len(read.beats)


async def test_an_account_that_may_not_ask_how_large_they_are_reads_them(own: Place) -> None:
    await own.tell("ACL", "SETUSER", "plain", "on", "nopass", "~*", "+@all", "-memory")
    store = Place(own.url.replace("redis://", "redis://plain:any@"), own.client).store()
    await store.publish([beat(), *jobs(3)])
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread) == (4, 0, 0)
    await store.close()
    await own.tell("ACL", "DELUSER", "plain")


# --- what is removed


async def test_no_key_is_without_an_expiry_and_none_is_shortened(place: Place) -> None:
    store = place.store()
    await store.publish([beat(timeout_seconds=600.0)])
    await store.publish([beat("other", timeout_seconds=1.0)])
    assert await place.keys() == sorted([place.beats, place.kept, place.last, place.recent])
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


async def test_when_it_was_published_is_not_kept_for_longer_than_it_is_lately(
    place: Place,
) -> None:
    store = place.store()
    await store.publish(jobs(3))
    await place.tell("ZADD", place.recent, 1, "job\n0\ntoken", 1, "job\n1\ntoken")
    await store.publish([beat()])
    assert await place.tell("ZCARD", place.recent) == 2
    assert len((await store.read()).beats) == 4


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
