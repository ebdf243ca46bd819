"""MessageBrokerHealthCheck with clients of NATS and RabbitMQ, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from nats.aio.client import Client as Nats

from cqrs_ddd_health import MessageBrokerHealthCheck
from tests.asking import asked, failure_of, registry_of, row_of
from tests.servers import OwnNats, SharedServer, shared_servers


@pytest.fixture
async def nats(own_nats: OwnNats) -> AsyncIterator[Nats]:
    client = Nats()
    await client.connect(own_nats.url, error_cb=ignore, reconnect_time_wait=1)
    yield client
    await client.close()


async def ignore(error: Exception) -> None:
    """What the client reports of its own reconnecting is not what these tests are about."""


class ConnectedRabbit:
    """RabbitMQ as an application wraps it: it knows whether it is connected."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self._connection = connection

    async def is_connected(self) -> bool:
        return self._connection.connected.is_set() and not self._connection.is_closed


class AskingRabbit(ConnectedRabbit):
    """One that also asks the broker."""

    async def health_check(self) -> bool:
        async with self._connection.channel():
            return True


async def test_a_nats_server_that_is_killed_is_down_and_up_when_it_is_back(
    nats: Nats, own_nats: OwnNats
) -> None:
    registry = registry_of(MessageBrokerHealthCheck(nats))
    assert (await row_of(registry)).state == "up"
    own_nats.kill()
    await eventually(lambda: not nats.is_connected)
    assert failure_of(await row_of(registry)) == ("reported", None)
    own_nats.start()
    await eventually(lambda: nats.is_connected)
    assert (await row_of(registry)).state == "up"


@pytest.mark.parametrize("server", shared_servers("nats"), ids=lambda server: server.name)
async def test_the_nats_of_the_machine(server: SharedServer) -> None:
    client = Nats()
    await client.connect(server.url)
    check = MessageBrokerHealthCheck(client)
    assert (await asked(check)).state == "up"
    await client.close()
    assert (await asked(check)).state == "down"


@pytest.mark.parametrize("server", shared_servers("rabbitmq"), ids=lambda server: server.name)
async def test_the_rabbitmq_of_the_machine(server: SharedServer) -> None:
    connection = await aio_pika.connect(server.url)
    knowing = MessageBrokerHealthCheck(ConnectedRabbit(connection))
    asking = MessageBrokerHealthCheck(AskingRabbit(connection))
    assert (await asked(knowing)).details["asked"] == "is_connected"
    assert (await asked(asking)).details["asked"] == "health_check"
    assert await knowing() is True
    assert await asking() is True
    await connection.close()
    assert failure_of(await asked(knowing)) == ("reported", None)
    assert failure_of(await asked(asking))[0] == "exception"
    assert await knowing() is False
    assert await asking() is False


async def eventually(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
