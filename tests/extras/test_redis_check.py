"""RedisHealthCheck with redis-py's async and sync clients, on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster

from cqrs_ddd_health import ComponentStatus, HealthRegistry, InvalidOptionError, RedisHealthCheck
from cqrs_ddd_health.web.exposure import expose
from tests.asking import NAME, asked, asked_at, failure_of, registry_of, row_of
from tests.clients import async_redis, sync_redis, tell
from tests.processes import LOCALHOST
from tests.servers import OwnRedis, SharedServer, shared_servers

PASSWORD = "tr0ub4dor&3#@!"
SHARED = [pytest.param(server, id=server.name) for server in shared_servers("redis")]


@pytest.fixture
async def client(own_redis: OwnRedis) -> AsyncIterator[redis.asyncio.Redis]:
    client = async_redis(own_redis.port)
    yield client
    await client.aclose()


@pytest.fixture
def sync_client(own_redis: OwnRedis) -> Iterator[redis.Redis]:
    with sync_redis(own_redis.port) as client:
        yield client


@pytest.fixture
async def prober(client: redis.asyncio.Redis) -> AsyncIterator[str]:
    """An account that may PING and nothing else."""
    await tell(client, "ACL", "SETUSER", "prober", "on", f">{PASSWORD}", "+ping")
    yield "prober"
    await tell(client, "ACL", "DELUSER", "prober")


async def test_an_async_client_is_up_and_tells_of_its_server(client: redis.asyncio.Redis) -> None:
    version = (await tell(client, "INFO", "server"))["redis_version"]
    row = await asked(RedisHealthCheck(client))
    assert row.state == "up"
    assert row.details["server_version"] == version
    assert row.details["pool"] == {
        "max_connections": client.connection_pool.max_connections,
        "in_use": 0,
        "idle": 1,
    }


async def test_a_sync_client_is_up_and_tells_of_its_server(
    client: redis.asyncio.Redis, sync_client: redis.Redis
) -> None:
    row = await asked(RedisHealthCheck(sync_client))
    assert row.state == "up"
    assert row.details["server_version"] == (await tell(client, "INFO", "server"))["redis_version"]


@pytest.mark.parametrize("server", SHARED)
async def test_the_redis_of_the_machine(server: SharedServer) -> None:
    async with async_redis(server.port) as client:
        assert (await asked(RedisHealthCheck(client))).state == "up"
    with sync_redis(server.port) as sync_client:
        assert (await asked(RedisHealthCheck(sync_client))).state == "up"


@pytest.mark.parametrize("option", [{"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
async def test_however_a_client_reads_its_answers(
    own_redis: OwnRedis, option: dict[str, int]
) -> None:
    async with async_redis(own_redis.port, **option) as client:
        row = await asked(RedisHealthCheck(client))
    assert row.state == "up"
    assert row.details["server_version"]


async def test_a_client_with_one_connection(own_redis: OwnRedis) -> None:
    client = async_redis(own_redis.port, single_connection_client=True)
    async with client:
        registry = registry_of(RedisHealthCheck(client))
        assert [(await row_of(registry)).state for _ in range(3)] == ["up"] * 3
        assert await tell(client, "ECHO", "still mine") == b"still mine"


async def test_an_account_that_may_only_ping_is_up(own_redis: OwnRedis, prober: str) -> None:
    client = async_redis(own_redis.port, username=prober, password=PASSWORD)
    async with client:
        row = await asked(RedisHealthCheck(client))
    assert row.state == "up"
    assert "server_version" not in row.details


async def test_a_wrong_password_is_down_and_nowhere_in_the_report(
    own_redis: OwnRedis, prober: str
) -> None:
    client = async_redis(own_redis.port, username=prober, password=f"not {PASSWORD}")
    async with client:
        report = await registry_of(RedisHealthCheck(client)).report()
    row = report.component(NAME)
    assert row is not None
    assert failure_of(row) == ("exception", "AuthenticationError")
    shown = expose(report, "safe").model_dump_json()
    assert PASSWORD not in shown
    assert json.dumps(PASSWORD)[1:-1] not in shown
    assert "WRONGPASS" not in shown


async def test_the_version_is_asked_for_once_and_again_after_a_failure(
    client: redis.asyncio.Redis, own_redis: OwnRedis
) -> None:
    registry = registry_of(RedisHealthCheck(client))
    await tell(client, "CONFIG", "RESETSTAT")
    for _ in range(5):
        assert (await row_of(registry)).details["server_version"]
    assert await info_calls(client) == 1
    own_redis.stop()
    assert (await row_of(registry)).state == "down"
    own_redis.start()
    await tell(client, "CONFIG", "RESETSTAT")
    assert (await row_of(registry)).details["server_version"]
    assert await info_calls(client) == 1


async def info_calls(client: redis.asyncio.Redis) -> int:
    """How many INFOs the server has answered before this one."""
    stats = await tell(client, "INFO", "commandstats")
    return int(stats["cmdstat_info"]["calls"]) if "cmdstat_info" in stats else 0


async def test_a_server_that_is_away_is_down_and_up_when_it_is_back(
    client: redis.asyncio.Redis, sync_client: redis.Redis, own_redis: OwnRedis
) -> None:
    registry = HealthRegistry()
    registry.register("async", RedisHealthCheck(client))
    registry.register("sync", RedisHealthCheck(sync_client))
    assert await registry.check_all() == {"async": "up", "sync": "up"}
    own_redis.kill()
    assert await registry.check_all() == {"async": "down", "sync": "down"}
    own_redis.start()
    assert await registry.check_all() == {"async": "up", "sync": "up"}


async def test_a_call_is_a_bool(
    client: redis.asyncio.Redis, sync_client: redis.Redis, own_redis: OwnRedis
) -> None:
    assert await RedisHealthCheck(client)() is True
    assert await RedisHealthCheck(sync_client)() is True
    own_redis.stop()
    assert await RedisHealthCheck(client)() is False
    assert await RedisHealthCheck(sync_client)() is False


async def test_an_account_that_may_not_ask_is_not_made_to_ask_again(
    own_redis: OwnRedis, client: redis.asyncio.Redis, prober: str
) -> None:
    async with async_redis(own_redis.port, username=prober, password=PASSWORD) as limited:
        registry = registry_of(RedisHealthCheck(limited))
        await row_of(registry)
        before = await denials(client)
        for _ in range(3):
            assert (await row_of(registry)).state == "up"
        assert await denials(client) == before


async def denials(client: redis.asyncio.Redis) -> int:
    """How many commands the server has refused so far for want of a right."""
    return int(
        (await tell(client, "INFO", "errorstats")).get("errorstat_NOPERM", {"count": 0})["count"]
    )


# --- what takes writes


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicaof", "it is a replica"),
        ("maxmemory", "its memory is full"),
        ("min-replicas-to-write", "fewer replicas are connected"),
    ],
)
async def test_one_that_takes_no_writes_is_down_if_it_should(
    client: redis.asyncio.Redis,
    sync_client: redis.Redis,
    own_redis: OwnRedis,
    setting: str,
    words: str,
) -> None:
    async def rows() -> list[ComponentStatus]:
        checks = (
            RedisHealthCheck(client, writable=True),
            RedisHealthCheck(sync_client, writable=True),
        )
        rows = [await asked(check) for check in checks]
        return [*rows, await asked_at(f"{own_redis.url}?writable=true")]

    assert [row.state for row in await rows()] == ["up"] * 3
    try:
        if setting == "replicaof":
            await tell(client, "REPLICAOF", LOCALHOST, "1")
        else:
            await tell(client, "CONFIG", "SET", setting, "1")
        for row in await rows():
            assert row.state == "down"
            assert row.failure is not None
            assert (row.failure.message or "").startswith(words)
        assert (await asked(RedisHealthCheck(client))).state == "up"
    finally:
        await tell(client, "REPLICAOF", "NO", "ONE")
        for name in ("maxmemory", "min-replicas-to-write"):
            await tell(client, "CONFIG", "SET", name, "0")
    assert [row.state for row in await rows()] == ["up"] * 3


async def test_an_account_that_may_not_ask_cannot_know_whether_it_may_write(
    own_redis: OwnRedis, client: redis.asyncio.Redis, prober: str
) -> None:
    async with async_redis(own_redis.port, username=prober, password=PASSWORD) as limited:
        row = await asked(RedisHealthCheck(limited, writable=True))
    assert failure_of(row) == ("exception", "NoPermissionError")
    await tell(client, "ACL", "SETUSER", prober, "+info")
    async with async_redis(own_redis.port, username=prober, password=PASSWORD) as limited:
        assert (await asked(RedisHealthCheck(limited, writable=True))).state == "up"


def test_a_client_that_cannot_be_asked_whether_it_takes_writes() -> None:
    class Client:
        def ping(self) -> bool:
            return True

    with pytest.raises(InvalidOptionError, match=r"needs a client with info\(\), and Client has"):
        RedisHealthCheck(Client(), writable=True)
    perhaps: Any = "perhaps"
    with pytest.raises(InvalidOptionError, match="writable"):
        RedisHealthCheck(Client(), writable=perhaps)


# --- a cluster


async def test_a_cluster_that_refuses_every_command_is_down_although_it_answers_ping() -> None:
    with OwnRedis(cluster_enabled="yes") as node, sync_redis(node.port) as sync_client:
        async with async_redis(node.port) as client:

            async def rows() -> list[ComponentStatus]:
                rows = [await asked(RedisHealthCheck(one)) for one in (client, sync_client)]
                return [*rows, await asked_at(node.url)]

            for row in await rows():
                assert row.state == "down"
                assert row.failure is not None
                assert (row.failure.message or "").startswith("the state of its cluster is fail")
            await tell(client, "CLUSTER", "ADDSLOTS", *range(16_384))
            while (await tell(client, "CLUSTER INFO"))["cluster_state"] != "ok":
                await asyncio.sleep(0.05)
            assert [row.state for row in await rows()] == ["up"] * 3
            rights = ["+ping", "+info"]
            await tell(client, "ACL", "SETUSER", "prober", "on", f">{PASSWORD}", *rights)
        async with async_redis(node.port, username="prober", password=PASSWORD) as limited:
            assert (await asked(RedisHealthCheck(limited))).state == "up"
        async with RedisCluster(host=LOCALHOST, port=node.port) as cluster:
            row = await asked(RedisHealthCheck(cluster, writable=True))
            assert row.state == "up"
            assert row.details["server_version"]


async def test_a_cluster_that_goes_away_in_between_is_down() -> None:
    class Gone(AsyncMock):
        async def execute_command(self, words: str) -> None:
            raise ConnectionResetError

    Gone.__module__ = "redis.asyncio.gone"
    info = AsyncMock(return_value={"redis_version": "7", "redis_mode": "cluster"})
    check = RedisHealthCheck(Gone(info=info))
    assert failure_of(await asked(check)) == ("exception", "ConnectionResetError")
