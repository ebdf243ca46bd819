"""Connections to message brokers from their URLs, for checks that have no client of their own.

None of them reconnects by itself: whoever owns one closes it when it has failed and connects anew.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import NamedTuple, Protocol, cast
from urllib.parse import SplitResult, unquote, urlsplit

from cqrs_ddd_health.clients.mqtt import MqttConnection
from cqrs_ddd_health.runtime.cancellation import close_in_time

__all__ = ["CLUSTERS", "SCHEMES", "BrokerClient", "connect", "require_client_library"]


class BrokerClient(NamedTuple):
    """A connected client, and what closes it: in a second or two at most, raising no Exception."""

    client: object
    """What `MessageBrokerHealthCheck` is given."""

    close: Callable[[], Awaitable[object]]


def require_client_library(scheme: str) -> None:
    """Do nothing if `scheme`, one of `SCHEMES`, can be connected to.

    Raises:
        ImportError: if the library for it is not installed; says how to install it.
    """
    module, extra = _LIBRARIES.get(scheme, (None, ""))
    if module is None:
        return
    try:
        import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{scheme}:// needs {module}: pip install 'cqrs-ddd-health[{extra}]'"
        ) from error


async def connect(url: str) -> BrokerClient:
    """Connect to the broker at `url` once.

    User and password are percent-decoded. Leaves nothing behind if it fails or is cut off.

    Raises:
        ImportError: as `require_client_library`.
        Exception: what the library raises.
    """
    parts = urlsplit(url)
    require_client_library(parts.scheme)
    with _quietly():
        return await _CONNECTS[parts.scheme](parts)


class _Credentials(NamedTuple):
    username: str | None
    password: str | None


def _credentials(parts: SplitResult) -> _Credentials:
    userinfo, at, _ = parts.netloc.rpartition("@")
    username, colon, password = userinfo.partition(":")
    return _Credentials(unquote(username) if at else None, unquote(password) if colon else None)


async def _first_of(
    parts: SplitResult, connect_to: Callable[[str, SplitResult], Awaitable[BrokerClient]]
) -> BrokerClient:
    *others, last = parts.netloc.rpartition("@")[2].split(",")
    for address in others:
        with suppress(Exception):
            return await connect_to(address, parts)
    return await connect_to(last, parts)


# ------------------------------------------------------------------ what the libraries log

_ours: ContextVar[bool] = ContextVar("cqrs_health_broker_client", default=False)
_LOGGERS = ("aiokafka.conn", "aiormq.connection", "nats.aio.client")


@contextmanager
def _quietly() -> Generator[None]:
    """Let the libraries log nothing of a connection that is made here, nor of its tasks.

    A broker that is down is reported as such; each new attempt would log it as an error again.
    The application's own connections are logged as ever.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_not_ours)
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _ours.get()


# ------------------------------------------------------------------ RabbitMQ


class _Aiormq(Protocol):
    async def connect(self) -> object: ...
    async def close(self) -> None: ...


async def _connect_amqp(parts: SplitResult) -> BrokerClient:
    # The connection that one of aio-pika stands on; that one loses sight of it when cut off.
    make = cast("Callable[[str], _Aiormq]", import_module("aiormq").Connection)
    connection = make(parts.geturl())
    try:
        await connection.connect()
    except BaseException:
        await close_in_time(connection.close)
        raise
    return BrokerClient(connection, partial(close_in_time, connection.close))


# ------------------------------------------------------------------ NATS


class _Nats(Protocol):
    async def connect(
        self,
        servers: str,
        *,
        error_cb: Callable[[Exception], Awaitable[None]],
        allow_reconnect: bool,
        user: str | None,
        password: str | None,
        token: str | None,
    ) -> None: ...
    async def close(self) -> None: ...


class _Errors:
    """What nats-py tells of errors. Until it is connected the first one ends its attempts."""

    connected = False

    async def __call__(self, error: Exception) -> None:
        if not self.connected:
            raise error


async def _connect_nats(parts: SplitResult) -> BrokerClient:
    """Connect to the first of the servers that can be connected to."""
    return await _first_of(parts, _connect_nats_server)


async def _connect_nats_server(address: str, parts: SplitResult) -> BrokerClient:
    client = cast("Callable[[], _Nats]", import_module("nats.aio.client").Client)()
    username, password = _credentials(parts)
    errors = _Errors()
    try:
        await client.connect(
            f"{parts.scheme}://{address}",
            error_cb=errors.__call__,
            allow_reconnect=False,
            user=username if password is not None else None,
            password=password,
            token=username if password is None else None,
        )
    except BaseException:
        errors.connected = True
        await close_in_time(client.close)
        raise
    errors.connected = True
    return BrokerClient(client, partial(close_in_time, client.close))


# ------------------------------------------------------------------ MQTT


async def _connect_mqtt(parts: SplitResult) -> BrokerClient:
    tls = parts.scheme == "mqtts"
    username, password = _credentials(parts)
    connection = await MqttConnection.open(
        parts.hostname or "",
        parts.port or (8883 if tls else 1883),
        username=username,
        password=password,
        tls=tls,
    )
    return BrokerClient(connection, connection.close)


# ------------------------------------------------------------------ Kafka


class _Aiokafka(Protocol):
    async def connect(self) -> object: ...
    def close(self) -> Awaitable[object]: ...


async def _connect_kafka(parts: SplitResult) -> BrokerClient:
    """Connect to the first of the servers that can be connected to."""
    return await _first_of(parts, _connect_kafka_broker)


async def _connect_kafka_broker(address: str, parts: SplitResult) -> BrokerClient:
    # Not a client of the whole cluster: cut off in the middle, that loses sight of its connection.
    make = cast("Callable[..., _Aiokafka]", import_module("aiokafka.conn").AIOKafkaConnection)
    host = urlsplit(f"//{address}")
    username, password = _credentials(parts)
    connection = make(
        host.hostname,
        host.port or 9092,
        client_id="cqrs-ddd-health",
        security_protocol="PLAINTEXT" if username is None else "SASL_PLAINTEXT",
        sasl_mechanism=None if username is None else "PLAIN",
        sasl_plain_username=username,
        sasl_plain_password=password or "",
    )
    await connection.connect()
    return BrokerClient(connection, partial(close_in_time, connection.close))


_CONNECTS: dict[str, Callable[[SplitResult], Awaitable[BrokerClient]]] = {
    "amqp": _connect_amqp,
    "amqps": _connect_amqp,
    "kafka": _connect_kafka,
    "mqtt": _connect_mqtt,
    "mqtts": _connect_mqtt,
    "nats": _connect_nats,
    "tls": _connect_nats,
}
_LIBRARIES = {
    "amqp": ("aiormq", "amqp"),
    "amqps": ("aiormq", "amqp"),
    "kafka": ("aiokafka", "kafka"),
    "nats": ("nats", "nats"),
    "tls": ("nats", "nats"),
}

SCHEMES = tuple(_CONNECTS)
CLUSTERS = ("kafka", "nats", "tls")
"""Of these a URL may name several hosts, with commas between them."""
