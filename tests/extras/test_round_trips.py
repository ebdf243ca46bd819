"""Round trips to real brokers with the clients of their libraries, as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import aiomqtt
import pytest

from cqrs_ddd_health import InvalidCheckError, MessageBrokerHealthCheck
from cqrs_ddd_health.checks.brokers import round_trips
from tests.asking import asked, failure_of, kinds_of, registry_of, row_of
from tests.brokers import (
    KAFKA_CLIENTS,
    Library,
    amqp_methods,
    kafka_client,
    kafka_requests,
    libraries,
    mqtt_client,
    mqtt_packets,
    nats_client,
    nats_words,
    plain_pika,
    stop_kafka,
)
from tests.fault_servers import FaultProxy
from tests.processes import LOCALHOST, free_port
from tests.servers import OwnKafka, OwnNats, SharedServer, shared_servers

ASKED = {
    "aio_pika": "channel",
    "aio_pika robust": "channel",
    "nats": "PING",
    "aiomqtt": "UNSUBSCRIBE",
}
AMQP_CONNECTION, AMQP_CHANNEL = 10, 20
MQTT_CONNECT, MQTT_UNSUBSCRIBE, MQTT_DISCONNECT = 1, 10, 14
KAFKA_METADATA, KAFKA_API_VERSIONS = 3, 18


def machine(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", shared_servers(*names), ids=lambda server: server.name)


@pytest.mark.parametrize("library", libraries(), ids=lambda library: library.name)
async def test_a_client_as_it_comes_is_asked_for_an_answer(library: Library) -> None:
    async with library.client(library.server.port) as client:
        check = MessageBrokerHealthCheck(client)
        row = await asked(check)
        assert row.state == "up"
        assert row.details["client"] == type(client).__name__
        assert row.details["asked"] == ASKED[library.name]
        assert await check() is True
    row = await asked(check)
    assert row.state == "down"
    assert await check() is False


@machine("rabbitmq")
async def test_rabbitmq_tells_what_it_is(server: SharedServer) -> None:
    async with plain_pika(server.port) as connection:
        details = (await asked(MessageBrokerHealthCheck(connection))).details
        assert details["server"] == "RabbitMQ"
        assert str(details["server_version"])[0].isdigit()
        assert connection.transport is not None
        inner = MessageBrokerHealthCheck(connection.transport.connection)
        assert (await asked(inner)).details == details
    assert failure_of(await asked(inner)) == ("reported", None)


def does_nothing_amqp(said: bytes) -> bool:
    return {group for group, _ in amqp_methods(said)} == {AMQP_CONNECTION, AMQP_CHANNEL}


def does_nothing_nats(said: bytes) -> bool:
    return nats_words(said) == {"CONNECT", "PING"}


def does_nothing_mqtt(said: bytes) -> bool:
    return mqtt_packets(said) == {MQTT_CONNECT, MQTT_UNSUBSCRIBE, MQTT_DISCONNECT}


HARMLESS: dict[str, Callable[[bytes], bool]] = {
    "rabbitmq": does_nothing_amqp,
    "nats": does_nothing_nats,
    "mosquitto": does_nothing_mqtt,
}


@pytest.mark.parametrize("library", libraries(), ids=lambda library: library.name)
async def test_nothing_is_published_or_written(library: Library) -> None:
    with FaultProxy(library.server.port) as proxy:
        async with library.client(proxy.port) as client:
            registry = registry_of(MessageBrokerHealthCheck(client))
            for _ in range(3):
                assert (await row_of(registry)).state == "up"
        said = await proxy.said_to_server()
    assert HARMLESS[library.server.name](said), said


@machine("rabbitmq")
async def test_channels_do_not_accumulate(server: SharedServer) -> None:
    async with plain_pika(server.port) as connection:
        transport: Any = connection.transport
        channels = transport.connection.channels
        registry = registry_of(MessageBrokerHealthCheck(connection))
        for _ in range(20):
            assert (await row_of(registry)).state == "up"
        assert not channels


@machine("rabbitmq")
async def test_a_question_that_got_lost_is_asked_anew(
    server: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "_ANSWER_SECONDS", 0.2)
    with FaultProxy(server.port) as proxy:
        async with plain_pika(proxy.port) as connection:
            check = MessageBrokerHealthCheck(connection)
            proxy.drop("to_client")
            assert failure_of(await asked(check)) == ("exception", "TimeoutError")
            proxy.pass_through()
            assert (await asked(check)).state == "up"


@pytest.mark.parametrize("library", libraries(), ids=lambda library: library.name)
async def test_a_client_cut_off_in_mid_question_is_fit_for_the_next_one(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultProxy(library.server.port) as proxy:
        async with library.client(proxy.port) as client:
            check = MessageBrokerHealthCheck(client)
            registry = registry_of(check, timeout_seconds=0.05)
            for _ in range(3):
                proxy.delay(0.2, "to_client")
                assert set(await kinds_of(registry, 3)) == {"timeout"}
                proxy.pass_through()
                assert (await asked(check)).state == "up"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_library_that_hides_its_ping_is_asked_whether_it_is_connected() -> None:
    class Client:
        is_connected = True

    Client.__module__ = "nats.of.the.future"
    row = await asked(MessageBrokerHealthCheck(Client()))
    assert (row.state, row.details["asked"]) == ("up", "is_connected")


async def test_a_client_with_a_health_check_of_its_own_is_asked_that() -> None:
    class Client(aiomqtt.Client):
        async def health_check(self) -> bool:
            return True

    row = await asked(MessageBrokerHealthCheck(Client(LOCALHOST)))
    assert (row.state, row.details["asked"]) == ("up", "health_check")


@machine("nats")
async def test_what_a_client_hands_out_is_no_client(server: SharedServer) -> None:
    async with nats_client(server.port) as client:
        untyped: Any = client
        with pytest.raises(InvalidCheckError, match="JetStreamContext has neither"):
            MessageBrokerHealthCheck(untyped.jetstream())


# ------------------------------------------------------------------ NATS


async def test_a_nats_that_dies_while_it_is_asked_is_down_at_once(own_nats: OwnNats) -> None:
    async with nats_client(own_nats.port) as client:
        own_nats.freeze()
        asking = asyncio.create_task(MessageBrokerHealthCheck(client).check())
        await asyncio.sleep(0.05)
        own_nats.kill()
        result = await asking
    assert (result.state, result.message) == ("down", "the client is not connected")


async def test_nats_tells_its_version(own_nats: OwnNats) -> None:
    async with nats_client(own_nats.port) as client:
        details = (await asked(MessageBrokerHealthCheck(client))).details
    assert str(details["server_version"]).count(".") == 2


# ------------------------------------------------------------------ MQTT


async def test_an_mqtt_client_that_was_never_entered_is_down() -> None:
    check = MessageBrokerHealthCheck(mqtt_client(1))
    assert failure_of(await asked(check)) == ("exception", "MqttCodeError")


@machine("mosquitto")
async def test_an_mqtt_client_whose_connection_is_lost_in_mid_question_is_down_at_once(
    server: SharedServer,
) -> None:
    with FaultProxy(server.port) as proxy:
        client = mqtt_client(proxy.port)
        check = MessageBrokerHealthCheck(client)
        with suppress(aiomqtt.MqttError):  # older ones raise it when they are left
            async with client:
                proxy.delay(0.3)
                asking = asyncio.create_task(asked(check))
                await asyncio.sleep(0.1)
                proxy.cut()
                assert failure_of(await asking) == ("exception", "ConnectionError")
                assert failure_of(await asked(check)) == ("exception", "MqttCodeError")
        proxy.pass_through()
        async with client:
            assert (await asked(check)).state == "up"


@machine("mosquitto")
async def test_an_mqtt_client_that_times_out_by_itself_is_down(server: SharedServer) -> None:
    with FaultProxy(server.port) as proxy:
        async with aiomqtt.Client(LOCALHOST, proxy.port, timeout=0.1) as client:
            check = MessageBrokerHealthCheck(client)
            proxy.drop("to_client")
            assert failure_of(await asked(check)) == ("exception", "MqttError")
            proxy.pass_through()


# ------------------------------------------------------------------ Kafka


@pytest.mark.parametrize("name", KAFKA_CLIENTS)
async def test_a_kafka_client_is_asked_for_the_metadata_of_no_topic(
    own_kafka: OwnKafka, name: str
) -> None:
    client = kafka_client(name, own_kafka.port)
    check = MessageBrokerHealthCheck(client)
    row = await asked(check)
    assert (row.state, row.details["asked"]) == ("down", "is it connected"), "not started"
    await client.start()
    row = await asked(check)
    assert (row.state, row.details["asked"]) == ("up", "Metadata")
    assert row.details["client"] == name.rpartition(".")[2]
    await stop_kafka(client)
    assert (await asked(check)).details["asked"] == "is it connected"


async def test_asking_kafka_creates_no_topic(own_kafka: OwnKafka) -> None:
    client = kafka_client("AIOKafkaProducer", own_kafka.port)
    await client.start()
    before = (await client.client.fetch_all_metadata()).topics()
    for _ in range(3):
        assert (await asked(MessageBrokerHealthCheck(client))).state == "up"
    assert (await client.client.fetch_all_metadata()).topics() == before
    await client.stop()


async def test_one_broker_of_kafka_that_answers_is_enough(
    own_kafka: OwnKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = kafka_client("AIOKafkaProducer", own_kafka.port)
    await client.start()
    known: list[Any] = list(client.client.cluster.brokers())
    stranger = known[0]._replace(nodeId=7, port=free_port())
    for brokers in ([stranger, *known], [*known, stranger]):
        monkeypatch.setattr(client.client.cluster, "brokers", partial(tuple[Any, ...], brokers))
        assert (await asked(MessageBrokerHealthCheck(client))).state == "up"
    monkeypatch.setattr(client.client.cluster, "brokers", lambda: [stranger])
    row = await asked(MessageBrokerHealthCheck(client))
    assert failure_of(row) == ("exception", "NodeNotReadyError")
    monkeypatch.undo()
    await client.stop()


async def test_a_kafka_without_brokers_is_asked_on_the_connection_that_is_there() -> None:
    requests: list[object] = []

    class Cluster:
        def brokers(self) -> list[Any]:
            return []

    class Inner:
        cluster = Cluster()

        async def send(self, node: object, request: object) -> None:
            requests.append(node)

    class AIOKafkaProducer:
        client = Inner()

    AIOKafkaProducer.__module__ = "aiokafka"
    assert (await asked(MessageBrokerHealthCheck(AIOKafkaProducer()))).state == "up"
    assert requests == ["bootstrap"]


async def test_a_connection_of_kafka_is_asked_too(own_kafka: OwnKafka) -> None:
    with FaultProxy(own_kafka.port) as proxy:
        connection: Any = import_module("aiokafka.conn").AIOKafkaConnection(LOCALHOST, proxy.port)
        check = MessageBrokerHealthCheck(connection)
        assert failure_of(await asked(check)) == ("reported", None)
        await connection.connect()
        assert (await asked(check)).details["asked"] == "Metadata"
        await connection.close()
        assert failure_of(await asked(check)) == ("reported", None)
        assert kafka_requests(await proxy.said_to_server()) == {KAFKA_METADATA, KAFKA_API_VERSIONS}
