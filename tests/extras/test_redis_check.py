"""RedisHealthCheck with redis-py's async and sync clients, on real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import redis.asyncio

from cqrs_ddd_health import HealthRegistry, RedisHealthCheck
from cqrs_ddd_health.exposure import expose
from tests.asking import NAME, asked, failure_of, registry_of, row_of
from tests.clients import async_redis, sync_redis, tell
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
