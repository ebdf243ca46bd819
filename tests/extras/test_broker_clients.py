"""Connections to message brokers from URLs, on real servers and on bad ones."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiormq
import psutil
import pytest
from aiormq.exceptions import AMQPConnectionError

from cqrs_ddd_health import MessageBrokerHealthCheck
from cqrs_ddd_health.checks.brokers.connect import (
    SCHEMES,
    BrokerClient,
    connect,
    require_client_library,
)
from cqrs_ddd_health.domain.transitions import LOGGER
from tests.asking import asked, failure_of, kinds_of, registry_of, row_of
from tests.brokers import amqp_methods, kafka_requests, mqtt_packets, nats_words
from tests.fault_servers import (
    Blackhole,
    DripServer,
    FaultProxy,
    FaultServer,
    GarbageServer,
    ResetServer,
)
from tests.processes import LOCALHOST, free_port
from tests.servers import OwnKafka, OwnNats, SharedServer, shared_servers

SECRET = "p@ss#1/%2"
USERINFO = "some%40one:p%40ss%231%2F%252"
PUBLISH: dict[str, object] = {"rabbitmq": (60, 40), "nats": "PUB", "mosquitto": 3}
PARSERS: dict[str, Callable[[bytes], set[Any]]] = {
    "rabbitmq": amqp_methods,
    "nats": nats_words,
    "mosquitto": mqtt_packets,
}
PREFIXES = {"rabbitmq": "amqp://guest:guest@", "nats": "nats://", "mosquitto": "mqtt://"}


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[BrokerClient]:
    broker = await connect(url)
    try:
        yield broker
    finally:
        await broker.close()


def connections_to(port: int) -> int:
    """How many connections to that port this process has, at its own end of them."""
    connections = psutil.Process().net_connections(kind="tcp")
    return sum(bool(found.raddr) and found.raddr.port == port for found in connections)


@asynccontextmanager
async def leaving_nothing_behind(port: int) -> AsyncGenerator[None]:
    """Neither tasks nor connections to that port, nor anything that complains when collected."""
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before or connections_to(port):
            await asyncio.sleep(0.01)
    gc.collect()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Callable[[], None]:
    """Asserts that nothing worth a warning was logged, and nothing at all with the password."""
    caplog.set_level(logging.DEBUG)

    def check() -> None:
        records = [record for record in caplog.records if record.name != LOGGER]  # its own news
        loud = [record.getMessage() for record in records if record.levelno > logging.INFO]
        assert loud == []
        assert SECRET not in caplog.text
        assert USERINFO not in caplog.text

    return check


@pytest.mark.parametrize("server", shared_servers(*PREFIXES), ids=lambda server: server.name)
async def test_a_url_becomes_a_client_that_the_check_can_ask(
    server: SharedServer, quiet: Callable[[], None]
) -> None:
    with FaultProxy(server.port) as proxy:
        async with leaving_nothing_behind(proxy.port):
            async with connected(f"{PREFIXES[server.name]}{LOCALHOST}:{proxy.port}") as broker:
                check = MessageBrokerHealthCheck(broker.client)
                for _ in range(2):
                    assert (await asked(check)).state == "up"
            assert (await asked(check)).state == "down"
        said = await proxy.said_to_server()
    assert PUBLISH[server.name] not in PARSERS[server.name](said)
    quiet()


async def test_kafka_may_have_several_servers(
    own_kafka: OwnKafka, quiet: Callable[[], None]
) -> None:
    with FaultProxy(own_kafka.port) as proxy:
        url = f"kafka://{LOCALHOST}:{free_port()},{LOCALHOST}:{proxy.port},{LOCALHOST}:1"
        async with leaving_nothing_behind(proxy.port), connected(url) as broker:
            assert (await asked(MessageBrokerHealthCheck(broker.client))).state == "up"
        assert kafka_requests(await proxy.said_to_server()) == {3, 18}, "Metadata, ApiVersions"
    quiet()


async def test_nats_may_have_several_servers(own_nats: OwnNats, quiet: Callable[[], None]) -> None:
    with FaultProxy(own_nats.port) as proxy:
        url = f"nats://{LOCALHOST}:{free_port()},{LOCALHOST}:{proxy.port},{LOCALHOST}:1"
        async with leaving_nothing_behind(proxy.port), connected(url) as broker:
            assert (await asked(MessageBrokerHealthCheck(broker.client))).state == "up"
    quiet()


async def test_a_connection_that_is_lost_does_not_come_back(own_nats: OwnNats) -> None:
    with FaultProxy(own_nats.port) as proxy:
        async with connected(f"nats://{LOCALHOST}:{proxy.port}") as broker:
            registry = registry_of(MessageBrokerHealthCheck(broker.client), timeout_seconds=0.5)
            assert (await row_of(registry)).state == "up"
            proxy.cut()
            await asyncio.sleep(0.2)
            assert failure_of(await row_of(registry)) == ("reported", None)
            assert proxy.accepted == 1


# ------------------------------------------------------------------ who it says it is


class Hello(FaultServer):
    """Says its piece to begin with, and then again after whatever it is told; notes that."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.pieces = list(pieces)
        self.heard = b""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in self.pieces:
            writer.write(piece)
            self.heard += await reader.read(65_536)
        await reader.read()


NATS_INFO = b'INFO {"version":"2.0.0","max_payload":1,"auth_required":true}\r\n'


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        (f"{USERINFO}@", {"user": "some@one", "pass": SECRET}),
        ("p%40ss%231%2F%252@", {"auth_token": SECRET}),
        ("", {}),
    ],
)
async def test_nats_is_told_user_and_password_or_a_token(
    userinfo: str, expected: dict[str, str]
) -> None:
    with Hello(NATS_INFO, b"PONG\r\n") as server:
        async with connected(f"nats://{userinfo}{LOCALHOST}:{server.port}"):
            told = json.loads(server.heard.partition(b"CONNECT ")[2].partition(b"\r\n")[0])
    assert {key: told[key] for key in ("user", "pass", "auth_token") if key in told} == expected


MQTT_WELCOME = b"\x20\x02\x00\x00"


@pytest.mark.parametrize(
    ("userinfo", "flags", "words"),
    [
        (f"{USERINFO}@", 0xC2, ["some@one", SECRET]),
        ("someone@", 0x82, ["someone"]),
        ("", 0x02, []),
        (f"someone:{'x' * 200}@", 0xC2, ["someone", "x" * 200]),
    ],
)
async def test_mqtt_is_told_user_and_password(userinfo: str, flags: int, words: list[str]) -> None:
    with Hello(b"", MQTT_WELCOME) as server:
        async with connected(f"mqtt://{userinfo}{LOCALHOST}:{server.port}"):
            told = server.heard
    body = told[told.index(b"\x00\x04MQTT") :]
    assert body[6:10] == bytes((4, flags, 0, 0))
    assert body.endswith(b"".join(len(w).to_bytes(2, "big") + w.encode() for w in words))
    low, high = told[1] & 127, (told[2] if told[1] > 127 else 0)
    assert low + 128 * high == len(body)


@pytest.mark.parametrize("server", shared_servers("rabbitmq"), ids=lambda server: server.name)
async def test_rabbitmq_is_told_user_and_password(server: SharedServer) -> None:
    with FaultProxy(server.port) as proxy:
        error = await gives_up(f"amqp://{USERINFO}@{LOCALHOST}:{proxy.port}", 10)
        assert type(error).__name__ == "ProbableAuthenticationError"
        assert f"\0some@one\0{SECRET}".encode() in await proxy.said_to_server()


async def test_kafka_is_told_user_and_password(quiet: Callable[[], None]) -> None:
    versions = b"\x00\x00" + struct.pack(">i", 2) + struct.pack(">hhhhhh", 17, 0, 1, 36, 0, 0)
    handshake = b"\x00\x00" + struct.pack(">i", 1) + b"\x00\x05PLAIN"
    answers = [
        struct.pack(">ii", 4 + len(a), n + 1) + a for n, a in enumerate((versions, handshake))
    ]
    with Hello(b"", *answers) as server:
        error = await gives_up(f"kafka://{USERINFO}@{LOCALHOST}:{server.port}", 0.5)
        assert isinstance(error, asyncio.CancelledError)
        assert f"some@one\0some@one\0{SECRET}".encode() in server.heard
    quiet()


# ------------------------------------------------------------------ what goes wrong


FAULTS: dict[str, Callable[[], FaultServer]] = {
    "never answers": Blackhole,
    "resets": ResetServer,
    "garbage": GarbageServer,
    "drips": partial(DripServer, b"\x20\x02\x00\x05 INFO {}\r\n" * 9, 0.01),
    "says good-bye": partial(Hello, b""),
}


async def gives_up(url: str, seconds: float) -> BaseException:
    """What connecting raises, cut off after that time as a check is."""
    connecting = asyncio.create_task(connect(url))
    await asyncio.wait({connecting}, timeout=seconds)
    connecting.cancel()
    await asyncio.wait({connecting}, timeout=3)
    assert connecting.done()
    if connecting.cancelled():
        return asyncio.CancelledError()
    error = connecting.exception()
    assert error is not None
    return error


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bad_server_leaves_nothing_behind(
    scheme: str, fault: str, quiet: Callable[[], None]
) -> None:
    with FAULTS[fault]() as server:
        async with leaving_nothing_behind(server.port):
            for _ in range(2):
                error = await gives_up(f"{scheme}://{USERINFO}@{LOCALHOST}:{server.port}", 0.2)
                assert SECRET not in str(error)
    quiet()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nobody_there_is_said_at_once(scheme: str, quiet: Callable[[], None]) -> None:
    port = free_port()
    async with leaving_nothing_behind(port):
        error = await gives_up(f"{scheme}://{USERINFO}@{LOCALHOST}:{port}", 10)
        assert not isinstance(error, asyncio.CancelledError)
    quiet()


async def test_a_refusal_of_mqtt_says_why() -> None:
    for code, reason in ((4, "wrong user name or password"), (9, "code 9")):
        with Hello(b"", bytes((0x20, 2, 0, code))) as server:
            error = await gives_up(f"mqtt://{LOCALHOST}:{server.port}", 10)
        assert isinstance(error, ConnectionRefusedError)
        assert reason in str(error)


@pytest.mark.parametrize("addresses", [("127.0.0.2", LOCALHOST), (LOCALHOST, "127.0.0.2")])
async def test_one_address_of_an_mqtt_broker_that_answers_is_enough(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, str]
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    def look_up(host: str, *_: int, **__: int) -> object:
        return found if host == "a.name" else []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Hello(b"", MQTT_WELCOME) as server:
        async with connected(f"mqtt://a.name:{server.port}"):
            assert server.accepted == 1


async def test_a_late_answer_of_mqtt_is_not_taken_for_one_of_now() -> None:
    with Hello(b"", MQTT_WELCOME, b"", b"\xd0\x00") as server:
        async with connected(f"mqtt://{LOCALHOST}:{server.port}") as broker:
            registry = registry_of(MessageBrokerHealthCheck(broker.client), timeout_seconds=0.2)
            assert await kinds_of(registry, 2) == ["timeout"] * 2


CUT_AFTER_SECONDS = [0.001 * 1.5**step for step in range(16)]


@pytest.mark.parametrize("server", shared_servers(*PREFIXES), ids=lambda server: server.name)
async def test_connecting_that_is_cut_off_anywhere_leaves_nothing_behind(
    server: SharedServer, quiet: Callable[[], None]
) -> None:
    with FaultProxy(server.port) as proxy:
        proxy.delay(0.02)
        async with leaving_nothing_behind(proxy.port):
            for seconds in CUT_AFTER_SECONDS:
                url = f"{PREFIXES[server.name]}{LOCALHOST}:{proxy.port}"
                connecting = asyncio.create_task(connect(url))
                await asyncio.wait({connecting}, timeout=seconds)
                connecting.cancel()
                await asyncio.wait({connecting}, timeout=3)
                # Cancelled in the moment of its success, `asyncio.wait_for` succeeds on 3.11.
                if not connecting.cancelled():
                    await connecting.result().close()
    quiet()


@pytest.mark.parametrize("server", shared_servers(*PREFIXES), ids=lambda server: server.name)
async def test_closing_does_not_wait_for_a_server_that_does_not_answer(
    server: SharedServer, quiet: Callable[[], None]
) -> None:
    with FaultProxy(server.port) as proxy:
        async with leaving_nothing_behind(proxy.port):
            broker = await connect(f"{PREFIXES[server.name]}{LOCALHOST}:{proxy.port}")
            proxy.drop()
            async with asyncio.timeout(2):
                await broker.close()
                await broker.close()
    quiet()


# ------------------------------------------------------------------ libraries


def test_a_missing_library_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, module, extra in (
        ("amqps", "aiormq", "amqp"),
        ("nats", "nats", "nats"),
        ("kafka", "aiokafka", "kafka"),
    ):
        require_client_library(scheme)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"pip install 'cqrs-ddd-health\[{extra}\]'"):
            require_client_library(scheme)
    require_client_library("mqtt")


async def test_the_applications_own_connections_are_logged_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"amqp://{LOCALHOST}:{free_port()}"
    await gives_up(url, 10)
    assert caplog.records == []
    with pytest.raises(AMQPConnectionError):
        await aiormq.connect(url)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
