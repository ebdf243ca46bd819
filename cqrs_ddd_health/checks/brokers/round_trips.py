"""Round trips to message brokers with the clients of their libraries, none of which is imported.

A broker that is frozen, or gone without a word, still looks connected: only an answer tells.
Nothing that is asked here writes or publishes anything, and none of it needs a right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Protocol, TypeAlias, cast

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.runtime.cancellation import retrieve
from cqrs_ddd_health.runtime.tasks import start_task

__all__ = ["RoundTrip", "round_trip"]

RoundTrip: TypeAlias = Callable[[], Awaitable[CheckResult]]
"""Asks once. Raises what the library raises; is down at once where the client knows itself lost."""

_ANSWER_SECONDS = 30.0
"""How long a question stays open: one that got lost is not waited for for ever."""

_LOOK_SECONDS = 0.1
"""How soon it is seen that the connection was lost while an answer is waited for."""

_NOBODYS_TOPIC = "cqrs-ddd-health/nobody/ever/subscribes/to/this"


def round_trip(client: object) -> RoundTrip | None:
    """Return what asks the broker of `client`, or None if no round trip is known for it.

    Known are a connection of aio-pika or aiormq, a client of nats-py or aiomqtt, and aiokafka's
    producer, consumer, admin client and connection, and whatever derives from one of them.
    """
    for base in type(client).__mro__:
        make = _MAKERS.get((base.__module__.partition(".")[0], base.__name__))
        if make is not None:
            return make(client)
    return None


class _Question:
    """A question that is asked once at a time, and left to be answered if its asker gives up.

    Cut off in the middle, AMQP would get one channel more each time that a frozen broker is asked,
    and aiomqtt would log the late answer as an error.
    """

    def __init__(self) -> None:
        self._asked: asyncio.Task[None] | None = None

    async def answered(self, ask: Callable[[], Coroutine[None, None, None]]) -> None:
        """Wait for the answer, to an earlier question if that is still open."""
        if self._asked is None or self._asked.done():
            self._asked = start_task(_in_time(ask), "cqrs-health question")
            self._asked.add_done_callback(retrieve)
        await asyncio.wait({self._asked})
        if self._asked.cancelled():
            raise ConnectionError("the connection was lost before the broker answered")
        self._asked.result()


async def _in_time(ask: Callable[[], Coroutine[None, None, None]]) -> None:
    async with asyncio.timeout(_ANSWER_SECONDS):
        await ask()


def _up(client: object, asked: str, **details: str) -> CheckResult:
    known = {name: value for name, value in details.items() if value}
    return CheckResult(details={"client": type(client).__name__, "asked": asked, **known})


def _not_connected(client: object) -> CheckResult:
    details = {"client": type(client).__name__, "asked": "is it connected"}
    return CheckResult(state="down", details=details, message="the client is not connected")


# ------------------------------------------------------------------ AMQP: aio-pika and aiormq


class _AmqpChannel(Protocol):
    def close(self) -> Awaitable[object]: ...


class _AmqpConnection(Protocol):
    """The connection of aiormq, which the one of aio-pika has as `transport.connection`."""

    @property
    def is_opened(self) -> bool: ...
    @property
    def server_properties(self) -> Mapping[str, object]: ...
    def channel(self, *, publisher_confirms: bool) -> Awaitable[_AmqpChannel]: ...


class _Transport(Protocol):
    @property
    def connection(self) -> _AmqpConnection: ...


class _PikaConnection(Protocol):
    @property
    def transport(self) -> _Transport | None: ...


class _AmqpRoundTrip:
    """Opens a channel and closes it.

    On aiormq's connection: a channel of aio-pika's robust one would be kept for restoring.
    """

    def __init__(self, client: object, connection: Callable[[], _AmqpConnection | None]) -> None:
        self._client = client
        self._connection = connection
        self._question = _Question()

    async def __call__(self) -> CheckResult:
        connection = self._connection()
        if connection is None or not connection.is_opened:
            return _not_connected(self._client)
        await self._question.answered(partial(_open_channel, connection))
        server = connection.server_properties
        product, version = (str(server.get(key, "")) for key in ("product", "version"))
        return _up(self._client, "channel", server=product, server_version=version)


async def _open_channel(connection: _AmqpConnection) -> None:
    channel = await connection.channel(publisher_confirms=False)
    await channel.close()


def _of_aio_pika(client: object) -> RoundTrip:
    pika = cast("_PikaConnection", client)

    def connection() -> _AmqpConnection | None:
        return pika.transport.connection if pika.transport is not None else None

    return _AmqpRoundTrip(client, connection)


def _of_aiormq(client: object) -> RoundTrip:
    return _AmqpRoundTrip(client, lambda: cast("_AmqpConnection", client))


# ------------------------------------------------------------------ NATS: nats-py


class _NatsClient(Protocol):
    @property
    def is_connected(self) -> bool: ...


_SendPing: TypeAlias = Callable[["asyncio.Future[bool]"], Awaitable[object]]


def _of_nats(client: object) -> RoundTrip | None:
    send_ping = getattr(client, "_send_ping", None)
    return partial(_ask_nats, cast("_NatsClient", client), send_ping) if send_ping else None


async def _ask_nats(client: _NatsClient, send_ping: _SendPing) -> CheckResult:
    """Send PING and wait for PONG.

    `flush()` and `rtt()` cancel their future when they are cut off, and a PONG that comes after
    that kills the client's read loop. This future waits for it for as long as it takes.
    """
    if _is_lost(client):
        return _not_connected(client)
    pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    await send_ping(pong)
    while not pong.done():
        await asyncio.wait({pong}, timeout=_LOOK_SECONDS)
        if not pong.done() and _is_lost(client):  # which ends no future
            return _not_connected(client)
    said = str(getattr(client, "connected_server_version", ""))
    version = said.removeprefix("<nats server v").removesuffix(">")
    return _up(client, "PING", server_version=version)


def _is_lost(client: _NatsClient) -> bool:
    return not client.is_connected


# ------------------------------------------------------------------ MQTT: aiomqtt


class _MqttClient(Protocol):
    def unsubscribe(self, topic: str) -> Awaitable[object]: ...


class _MqttRoundTrip:
    """Unsubscribes from a topic that nobody is subscribed to: the broker must confirm it."""

    def __init__(self, client: object) -> None:
        self._client = cast("_MqttClient", client)
        self._question = _Question()

    async def __call__(self) -> CheckResult:
        await self._question.answered(self._unsubscribe)
        return _up(self._client, "UNSUBSCRIBE")

    async def _unsubscribe(self) -> None:
        # aiomqtt goes on waiting when the connection is lost, although nothing can come any more.
        asking = cast("asyncio.Task[None]", asyncio.current_task())
        lost: asyncio.Future[None] = getattr(self._client, "_disconnected", asyncio.Future())

        def give_up(_: object) -> None:
            asking.cancel()

        lost.add_done_callback(give_up)
        try:
            await self._client.unsubscribe(_NOBODYS_TOPIC)
        finally:
            lost.remove_done_callback(give_up)


# ------------------------------------------------------------------ Kafka: aiokafka


class _Cluster(Protocol):
    def brokers(self) -> Iterable[tuple[int, str, int, str | None]]: ...


class _KafkaClient(Protocol):
    """What a producer, a consumer and an admin client share: `AIOKafkaClient`."""

    @property
    def cluster(self) -> _Cluster: ...
    def send(self, node_id: int | str, request: object) -> Awaitable[object]: ...


class _KafkaConnection(Protocol):
    def connected(self) -> bool: ...
    def send(self, request: object) -> Awaitable[object]: ...


def _of_kafka(client: object) -> RoundTrip:
    inner = getattr(client, "client", None) or getattr(client, "_client", None)
    return partial(_ask_kafka, client, cast("_KafkaClient", inner))


async def _ask_kafka(client: object, inner: _KafkaClient) -> CheckResult:
    """Ask one broker after the other for metadata; one that answers is enough."""
    # Neither started nor stopped is it fit to be asked: it would open connections for nobody.
    if getattr(inner, "_sync_task", inner) is None:
        return _not_connected(client)
    # A cluster without topics tells of no brokers: then the first connection is kept.
    nodes: list[int | str] = [broker[0] for broker in inner.cluster.brokers()] or ["bootstrap"]
    request = _metadata_of_no_topic()
    for node in nodes[:-1]:
        with suppress(Exception):
            await inner.send(node, request)
            return _up(client, "Metadata")
    await inner.send(nodes[-1], request)
    return _up(client, "Metadata")


def _of_kafka_connection(client: object) -> RoundTrip:
    return partial(_ask_kafka_connection, cast("_KafkaConnection", client))


async def _ask_kafka_connection(connection: _KafkaConnection) -> CheckResult:
    if not connection.connected():
        return _not_connected(connection)
    await connection.send(_metadata_of_no_topic())
    return _up(connection, "Metadata")


def _metadata_of_no_topic() -> object:
    """Make the request. One that names topics may create those that were deleted meanwhile."""
    protocol = import_module("aiokafka.protocol.metadata")  # the client is its own: it is loaded
    return cast("Callable[[list[str]], object]", protocol.MetadataRequest)([])


_MAKERS: dict[tuple[str, str], Callable[[object], RoundTrip | None]] = {
    ("aio_pika", "Connection"): _of_aio_pika,
    ("aiormq", "Connection"): _of_aiormq,
    ("nats", "Client"): _of_nats,
    ("aiomqtt", "Client"): _MqttRoundTrip,
    ("aiokafka", "AIOKafkaProducer"): _of_kafka,
    ("aiokafka", "AIOKafkaConsumer"): _of_kafka,
    ("aiokafka", "AIOKafkaAdminClient"): _of_kafka,
    ("aiokafka", "AIOKafkaConnection"): _of_kafka_connection,
}
