"""The servers that the other tests stand on do what those tests believe."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import nats.errors
import psutil
import pytest
import redis.asyncio
import redis.exceptions
from nats.aio.client import Client as Nats
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.fault_servers import (
    Blackhole,
    Direction,
    DripServer,
    FaultProxy,
    GarbageServer,
    ResetServer,
)
from tests.processes import LOCALHOST, OwnServer, ask, free_port, reachable, wait_until
from tests.servers import (
    KNOWN_SERVERS,
    OwnKafka,
    OwnNats,
    OwnPostgres,
    OwnRedis,
    SharedServer,
    shared_servers,
)

REFUSALS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    nats.errors.Error,
    redis.exceptions.RedisError,
)

Ping = Callable[[], Awaitable[object]]


async def ping_redis(port: int) -> object:
    client = redis.asyncio.Redis(
        host=LOCALHOST,
        port=port,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        return await client.get("a key that nobody has set")


async def ping_postgres(server: OwnPostgres) -> object:
    connection = await asyncpg.connect(server.url(), timeout=0.5)
    try:
        return await connection.fetchval("SELECT 1", timeout=0.5)
    finally:
        connection.terminate()


async def ping_nats(server: OwnNats) -> object:
    client = Nats()
    try:
        await client.connect(server.url, connect_timeout=1, allow_reconnect=False)
        await client.flush(timeout=1)
    finally:
        await client.close()
    return None


async def answers(ping: Ping) -> bool:
    try:
        await asyncio.wait_for(ping(), 5)
    except REFUSALS:
        return False
    return True


async def assert_lives_and_dies(server: OwnServer, ping: Ping) -> None:
    port = server.port
    assert await answers(ping)

    server.freeze()
    assert reachable(LOCALHOST, port), "the system accepts for a frozen server"
    assert not await answers(ping)
    server.thaw()
    assert await answers(ping)

    server.stop()
    assert not reachable(LOCALHOST, port)
    server.start()
    assert await answers(ping)

    server.freeze()
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.kill()
    assert not any(process.is_running() for process in family)
    server.recover()
    assert await answers(ping)

    server.restart()
    assert server.port == port
    assert await answers(ping)


async def test_a_redis_of_our_own_freezes_stops_and_comes_back(own_redis: OwnRedis) -> None:
    await assert_lives_and_dies(own_redis, lambda: ping_redis(own_redis.port))


async def test_a_postgres_of_our_own_freezes_stops_and_comes_back(
    own_postgres: OwnPostgres,
) -> None:
    await assert_lives_and_dies(own_postgres, lambda: ping_postgres(own_postgres))


async def test_a_nats_of_our_own_freezes_stops_and_comes_back(own_nats: OwnNats) -> None:
    await assert_lives_and_dies(own_nats, lambda: ping_nats(own_nats))


async def test_a_kafka_of_our_own_freezes_stops_and_comes_back(own_kafka: OwnKafka) -> None:
    assert kafka_says(own_kafka)
    own_kafka.freeze()
    assert not kafka_says(own_kafka)
    own_kafka.thaw()
    assert kafka_says(own_kafka)
    own_kafka.kill()
    assert not reachable(LOCALHOST, own_kafka.port)
    own_kafka.recover()
    assert kafka_says(own_kafka)


def kafka_says(server: OwnKafka) -> bytes:
    """The answer to a request for the versions that it knows."""
    return ask(server.port, b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\x00\x00")


async def test_a_frozen_postgres_keeps_an_open_connection_waiting(
    own_postgres: OwnPostgres,
) -> None:
    connection = await asyncpg.connect(own_postgres.url())
    try:
        own_postgres.freeze()
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.2)
        own_postgres.thaw()
    finally:
        connection.terminate()


def test_a_server_that_is_closed_leaves_no_process_and_no_files() -> None:
    with OwnRedis() as server:
        process = psutil.Process(server.pid)
        server.freeze()
    assert not process.is_running()
    assert not server.directory.exists()


def test_a_server_does_not_outlive_tests_that_are_killed() -> None:
    code = (
        "import time; from tests.servers import OwnRedis; server = OwnRedis(); server.start();"
        "server.freeze(); print(server.pid, server.directory, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        pid, directory = tests.stdout.readline().decode().split()
        server = psutil.Process(int(pid))
        tests.kill()
    assert wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert wait_until(lambda: not Path(directory).exists())


def test_a_server_that_cannot_start_says_what_it_wrote(own_redis: OwnRedis) -> None:
    server = OwnRedis()
    server.port = own_redis.port
    with pytest.raises(RuntimeError, match="in use"), server:
        pass


def test_a_free_port_is_not_one_that_the_system_gives_to_clients() -> None:
    assert all(free_port() < 32_768 for _ in range(100))


# ------------------------------------------------------------------ faulty servers


def said(port: int, timeout_seconds: float) -> bytes:
    """Everything that a server says in that time to somebody who has said hello."""
    deadline = time.monotonic() + timeout_seconds
    heard = b""
    with socket.create_connection((LOCALHOST, port), 5) as connection:
        connection.sendall(b"hello")
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                chunk = connection.recv(1024)
            except TimeoutError:
                break
            if not chunk:
                break
            heard += chunk
    return heard


def test_a_blackhole_accepts_and_never_answers() -> None:
    with Blackhole() as server:
        assert said(server.port, 0.2) == b""
        assert server.accepted == 1
        assert wait_until(lambda: server.connections == 0)


def test_a_drip_server_says_one_byte_at_a_time() -> None:
    with DripServer(b"abcdefghij", interval_seconds=0.1) as server:
        heard = said(server.port, 0.35)
    assert 0 < len(heard) < 10
    assert b"abcdefghij".startswith(heard)


def test_a_reset_server_resets() -> None:
    with ResetServer() as server, pytest.raises(ConnectionResetError):
        said(server.port, 5)


def test_a_garbage_server_says_garbage() -> None:
    with GarbageServer() as server:
        assert said(server.port, 0.2).startswith(b"\xff\xfe\xfd")


def test_a_faulty_server_that_is_closed_resets_its_connections_and_frees_its_port() -> None:
    with Blackhole() as server:
        connection = socket.create_connection((LOCALHOST, server.port), 5)
        assert wait_until(lambda: server.connections == 1)
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert not reachable(LOCALHOST, server.port)


# ------------------------------------------------------------------ the proxy


PING = b"PING\r\n"
PONG = b"+PONG\r\n"


def seconds_to_pong(port: int) -> float:
    started = time.monotonic()
    assert ask(port, PING, 5) == PONG
    return time.monotonic() - started


def test_a_proxy_passes_what_is_said(own_redis: OwnRedis) -> None:
    with FaultProxy(own_redis.port) as proxy:
        assert ask(proxy.port, PING) == PONG


@pytest.mark.parametrize(
    ("direction", "least"), [("both", 0.4), ("to_server", 0.2), ("to_client", 0.2)]
)
def test_a_proxy_delays(own_redis: OwnRedis, direction: Direction, least: float) -> None:
    with FaultProxy(own_redis.port) as proxy:
        proxy.delay(0.2, direction)
        assert seconds_to_pong(proxy.port) >= least
        proxy.pass_through()
        assert ask(proxy.port, PING) == PONG


@pytest.mark.parametrize("direction", ["both", "to_server", "to_client"])
def test_a_proxy_drops(own_redis: OwnRedis, direction: Direction) -> None:
    with FaultProxy(own_redis.port) as proxy:
        proxy.drop(direction)
        assert ask(proxy.port, PING, 0.2) == b""
        proxy.pass_through()
        assert ask(proxy.port, PING) == PONG


def test_a_fault_holds_for_a_connection_that_is_open_already(own_redis: OwnRedis) -> None:
    with (
        FaultProxy(own_redis.port) as proxy,
        socket.create_connection((LOCALHOST, proxy.port), 0.2) as connection,
    ):
        connection.sendall(PING)
        assert connection.recv(100) == PONG
        proxy.drop("to_client")
        connection.sendall(PING)
        with pytest.raises(TimeoutError):
            connection.recv(100)


def test_a_proxy_refuses_and_accepts_again(own_redis: OwnRedis) -> None:
    with FaultProxy(own_redis.port) as proxy:
        with socket.create_connection((LOCALHOST, proxy.port), 5) as connection:
            assert wait_until(lambda: proxy.connections == 1)
            proxy.refuse()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert not reachable(LOCALHOST, proxy.port)
        proxy.pass_through()
        assert ask(proxy.port, PING) == PONG


def test_a_proxy_cuts_what_is_open_and_accepts_more(own_redis: OwnRedis) -> None:
    with (
        FaultProxy(own_redis.port) as proxy,
        socket.create_connection((LOCALHOST, proxy.port), 5) as connection,
    ):
        assert wait_until(lambda: proxy.connections == 1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert ask(proxy.port, PING) == PONG


def test_a_proxy_to_a_server_that_is_gone_resets() -> None:
    with FaultProxy(free_port()) as proxy, pytest.raises(ConnectionResetError):
        said(proxy.port, 5)


# ------------------------------------------------------------------ servers of the machine


@pytest.mark.parametrize("server", shared_servers(), ids=lambda server: server.name)
def test_a_server_of_the_machine_answers(server: SharedServer) -> None:
    assert reachable(server.host, server.port)


def test_under_ci_every_server_counts_as_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert shared_servers() == list(KNOWN_SERVERS)
    assert [server.name for server in shared_servers("nats", "redis")] == ["redis", "nats"]


def only_redis(_host: str, port: int) -> bool:
    return port == 6379


def test_elsewhere_a_server_that_does_not_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("tests.servers.reachable", only_redis)
    assert [server.name for server in shared_servers()] == ["redis"]


def test_a_driver_is_written_into_the_url() -> None:
    known = {server.name: server for server in KNOWN_SERVERS}
    assert known["postgresql"].url_for("asyncpg").startswith("postgresql+asyncpg://root@")
