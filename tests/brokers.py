"""Clients of message brokers as applications make them, and what they said on the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, NamedTuple

import aio_pika
import aiomqtt
from nats.aio.client import Client as Nats

from tests.processes import LOCALHOST
from tests.servers import KNOWN_SERVERS, SharedServer, shared_servers


@asynccontextmanager
async def plain_pika(port: int) -> AsyncGenerator[aio_pika.abc.AbstractConnection]:
    connection = await aio_pika.connect(f"amqp://guest:guest@{LOCALHOST}:{port}/")
    async with connection:
        yield connection


@asynccontextmanager
async def robust_pika(port: int) -> AsyncGenerator[aio_pika.abc.AbstractRobustConnection]:
    """One that finds its way back in a tenth of a second."""
    connection = await aio_pika.connect_robust(
        f"amqp://guest:guest@{LOCALHOST}:{port}/?reconnect_interval=0.1"
    )
    async with connection:
        yield connection


async def ignore(error: Exception) -> None:
    """What the client reports of its own reconnecting is not what these tests are about."""


@asynccontextmanager
async def nats_client(port: int) -> AsyncGenerator[Nats]:
    """One that finds its way back in a tenth of a second."""
    client = Nats()
    options: dict[str, Any] = {"error_cb": ignore, "reconnect_time_wait": 0.1}
    await client.connect(f"nats://{LOCALHOST}:{port}", **options)
    try:
        yield client
    finally:
        await client.close()


def mqtt_client(port: int) -> aiomqtt.Client:
    return aiomqtt.Client(LOCALHOST, port)


class Library(NamedTuple):
    """A client library, and the server of the machine that it is tried with."""

    name: str
    server: SharedServer
    client: Callable[[int], AbstractAsyncContextManager[Any]]
    reconnects: bool


SERVERS = {server.name: server for server in KNOWN_SERVERS}
LIBRARIES = (
    Library("aio_pika", SERVERS["rabbitmq"], plain_pika, reconnects=False),
    Library("aio_pika robust", SERVERS["rabbitmq"], robust_pika, reconnects=True),
    Library("nats", SERVERS["nats"], nats_client, reconnects=True),
    Library("aiomqtt", SERVERS["mosquitto"], mqtt_client, reconnects=False),
)


def libraries(*, reconnects: bool | None = None) -> list[Library]:
    """Those whose server answers, to parametrize tests with."""
    servers = shared_servers()
    return [
        library
        for library in LIBRARIES
        if library.server in servers and reconnects in {None, library.reconnects}
    ]


KAFKA_CLIENTS = ("AIOKafkaProducer", "AIOKafkaConsumer", "admin.AIOKafkaAdminClient")


def kafka_client(name: str, port: int) -> Any:
    """One of aiokafka's clients, not yet started; the library has no types."""
    module, _, class_name = f"aiokafka.{name}".rpartition(".")
    return getattr(import_module(module), class_name)(bootstrap_servers=f"{LOCALHOST}:{port}")


async def stop_kafka(client: Any) -> None:
    await (client.stop if hasattr(client, "stop") else client.close)()


# ------------------------------------------------------------------ what was said


def amqp_methods(said: bytes) -> set[tuple[int, int]]:
    """The class and the number of every AMQP method, such as (60, 40) for basic.publish."""
    methods: set[tuple[int, int]] = set()
    said = said.removeprefix(b"AMQP\x00\x00\x09\x01")
    while said:
        end = 8 + int.from_bytes(said[3:7], "big")
        if said[0] == 1:
            methods.add((int.from_bytes(said[7:9], "big"), int.from_bytes(said[9:11], "big")))
        said = said[end:]
    return methods


def nats_words(said: bytes) -> set[str]:
    """The first word of every line of NATS."""
    return {line.split(b" ")[0].decode() for line in said.split(b"\r\n") if line}


def mqtt_packets(said: bytes) -> set[int]:
    """The type of every MQTT packet, such as 3 for PUBLISH; all are shorter than 128 bytes."""
    types: set[int] = set()
    while said:
        types.add(said[0] >> 4)
        said = said[2 + said[1] :]
    return types


def kafka_requests(said: bytes) -> set[int]:
    """The API key of every Kafka request, such as 0 for Produce."""
    keys: set[int] = set()
    while said:
        keys.add(int.from_bytes(said[4:6], "big"))
        said = said[4 + int.from_bytes(said[:4], "big") :]
    return keys
