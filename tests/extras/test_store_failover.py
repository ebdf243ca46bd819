"""Stores whose server became a replica, left its cluster, or is another one by now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from math import inf
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from cqrs_ddd_health import HeartbeatStore
from cqrs_ddd_health.heartbeats.stores.redis import RedisHeartbeatStore
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore
from tests.beats import beat, numbers
from tests.clients import async_redis, tell
from tests.fault_servers import FaultProxy
from tests.processes import LOCALHOST, wait_until
from tests.servers import OwnPostgres, OwnRedis, SharedServer, shared_servers

SLOTS = 16_384


async def held(store: HeartbeatStore) -> set[int]:
    return set(numbers(await store.read()).values())


# --- a refused write


async def test_after_a_refused_write_redis_is_connected_to_anew() -> None:
    with OwnRedis() as old, OwnRedis() as new, FaultProxy(old.port) as proxy:
        store = RedisHeartbeatStore(f"redis://{LOCALHOST}:{proxy.port}/0")
        await store.publish([beat()])
        async with async_redis(old.port) as client:
            await tell(client, "REPLICAOF", LOCALHOST, "1")
        proxy.lead_to(new.port)
        assert await held(store) == {1}  # over the connection to the old one
        with pytest.raises(ResponseError):
            await store.publish([beat(publish_number=2)])
        await store.publish([beat(publish_number=3)])
        assert await held(store) == {3}
        assert wait_until(lambda: proxy.connections == 1)
        await store.close()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_after_a_refused_write_a_database_is_connected_to_anew(
    own_postgres: OwnPostgres, driver: str
) -> None:
    with FaultProxy(own_postgres.port) as proxy:
        url = own_postgres.url(driver).replace(str(own_postgres.port), str(proxy.port))
        store = SqlHeartbeatStore(url)
        await store.publish([beat()])
        async with store._databases.lend() as database, database.engine.connect() as session:
            await session.execute(text("SET default_transaction_read_only = on"))
            await session.commit()
        with pytest.raises(DBAPIError, match="read-only"):
            await store.retire("worker", "instance", "token")
        await store.publish([beat(publish_number=3)])
        assert await held(store) == {3}
        assert proxy.accepted == 2
        await store.close()


async def test_a_reader_goes_on_while_a_publisher_connects_anew() -> None:
    with OwnRedis() as server:
        store = RedisHeartbeatStore(server.url)
        await store.publish([beat()])
        reads = [asyncio.create_task(held(store)) for _ in range(5)]
        await asyncio.sleep(0)
        await store.reconnect()
        assert await asyncio.gather(*reads) == [{1}] * 5
        await store.close()


# --- what a server says of itself


async def test_how_far_behind_a_redis_is() -> None:
    with OwnRedis(repl_ping_replica_period="1") as primary, OwnRedis() as replica:
        stores = [RedisHeartbeatStore(server.url) for server in (primary, replica)]
        assert [await store.behind_seconds() for store in stores] == [0.0, 0.0]
        async with async_redis(replica.port) as client:
            await tell(client, "REPLICAOF", LOCALHOST, str(primary.port))
            while (await tell(client, "INFO"))["master_link_status"] != "up":
                await asyncio.sleep(0.05)
            behind = await stores[1].behind_seconds()
            assert behind is not None
            assert 0 <= behind < 10
            primary.kill()
            while (await tell(client, "INFO"))["master_link_status"] == "up":
                await asyncio.sleep(0.05)
            assert await stores[1].behind_seconds() == inf
            await tell(client, "REPLICAOF", "NO", "ONE")
            await tell(client, "CONFIG", "SET", "maxmemory", "1")
            assert await stores[1].behind_seconds() == inf
        for store in stores:
            await store.close()


async def test_an_account_that_may_not_ask_a_redis_cannot_tell(own_redis: OwnRedis) -> None:
    rights = ["~*", "+@all", "-info", "-config"]
    async with async_redis(own_redis.port) as client:
        await tell(client, "ACL", "SETUSER", "limited", "on", ">secret", *rights)
        store = RedisHeartbeatStore(own_redis.url.replace("//", "//limited:secret@"))
        assert await store.behind_seconds() is None
        await tell(client, "ACL", "SETUSER", "limited", "on", "-@all", "+@dangerous")
        await store.close()
        await tell(client, "ACL", "DELUSER", "limited")


async def test_a_redis_that_is_away_cannot_be_asked() -> None:
    with OwnRedis() as server:
        store = RedisHeartbeatStore(server.url)
        server.kill()
        with pytest.raises(RedisConnectionError):
            await store.behind_seconds()
        await store.close()


async def test_how_far_behind_a_postgresql_is() -> None:
    with OwnPostgres() as primary, OwnPostgres(primary) as standby:
        stores = [SqlHeartbeatStore(server.url("asyncpg")) for server in (primary, standby)]
        await stores[0].publish([beat()])
        assert await stores[0].behind_seconds() == 0
        while await stores[1].behind_seconds() == inf:  # not linked yet
            await asyncio.sleep(0.05)
        assert 0 <= await stores[1].behind_seconds() < 60
        primary.kill()
        while await stores[1].behind_seconds() < inf:
            await asyncio.sleep(0.05)
        for store in stores:
            await store.close()


async def test_a_postgresql_that_was_made_read_only_for_all_hears_of_nothing() -> None:
    with OwnPostgres() as server:
        store = SqlHeartbeatStore(server.url("asyncpg"))
        await store.publish([beat()])
        engine = create_async_engine(server.url("asyncpg"), isolation_level="AUTOCOMMIT")
        async with engine.connect() as session:
            await session.execute(text("ALTER ROLE postgres SET default_transaction_read_only = 1"))
            await store.reconnect()
            assert await store.behind_seconds() == 0  # that is of this account
            await session.execute(text("ALTER ROLE postgres RESET default_transaction_read_only"))
            await session.execute(text("ALTER SYSTEM SET default_transaction_read_only = on"))
            await session.execute(text("SELECT pg_reload_conf()"))
            await store.reconnect()
            while await store.behind_seconds() == 0:
                await asyncio.sleep(0.05)
            assert await store.behind_seconds() == inf
        await engine.dispose()
        await store.close()


@pytest.mark.parametrize("server", shared_servers("mariadb"), ids=lambda server: server.name)
async def test_a_mariadb_that_takes_writes_is_not_behind(server: SharedServer) -> None:
    store = SqlHeartbeatStore(server.url_for("aiomysql"), create=False)
    assert await store.behind_seconds() == 0
    await store.close()


async def test_a_file_is_not_behind(tmp_path: Path) -> None:
    store = SqlHeartbeatStore(f"sqlite+aiosqlite:///{tmp_path}/beats")
    assert await store.behind_seconds() == 0
    await store.close()


# --- a cluster


@asynccontextmanager
async def two_nodes() -> AsyncGenerator[tuple[OwnRedis, OwnRedis]]:
    """A cluster of two, each of which has half of the slots."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(OwnRedis(cluster_enabled="yes")) for _ in range(2)]
        clients = [async_redis(node.port) for node in nodes]
        halves = range(SLOTS // 2), range(SLOTS // 2, SLOTS)
        for number, (client, slots) in enumerate(zip(clients, halves, strict=True)):
            await tell(client, "CLUSTER", "ADDSLOTS", *slots)
            await tell(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        await tell(clients[0], "CLUSTER", "MEET", LOCALHOST, nodes[1].port)
        for client in clients:
            while (await tell(client, "CLUSTER INFO"))["cluster_state"] != "ok":
                await asyncio.sleep(0.05)
            await client.aclose()
        yield nodes[0], nodes[1]


async def test_any_node_of_a_cluster_will_do() -> None:
    async with two_nodes() as nodes:
        stores = [RedisHeartbeatStore(node.url) for node in nodes]
        for number, store in enumerate(stores):
            await store.publish([beat(publish_number=number)])
            assert await held(store) == {number}
            assert await store.behind_seconds() == 0
        for store in stores:
            await store.retire("worker", "instance", "token")
            assert await held(store) == set()
            await store.close()


async def test_beats_that_go_to_another_node_are_found_there() -> None:
    async with two_nodes() as nodes:
        stores = [RedisHeartbeatStore(node.url) for node in nodes]
        for store in stores:
            assert await held(store) == set()
        clients = [async_redis(node.port) for node in nodes]
        names = [await tell(client, "CLUSTER", "MYID") for client in clients]
        slot = await tell(clients[0], "CLUSTER", "KEYSLOT", stores[0]._keys[0])
        to = 1 if slot < SLOTS // 2 else 0
        for client in (clients[to], clients[1 - to]):
            await tell(client, "CLUSTER", "SETSLOT", slot, "NODE", names[to])
        for number, store in enumerate(stores):
            await store.publish([beat(publish_number=number)])
            assert await held(store) == {number}
            await store.close()
        for client in clients:
            await client.aclose()


async def test_a_cluster_that_refuses_every_command_is_its_own_error() -> None:
    with OwnRedis(cluster_enabled="yes") as node:
        store = RedisHeartbeatStore(node.url)
        with pytest.raises(ResponseError, match="slot not served"):
            await store.publish([beat()])
        await store.close()
