"""Message brokers that freeze, are cut off or die, asked through the clients of their libraries."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cqrs_ddd_health import HealthRegistry, MessageBrokerHealthCheck
from tests.asking import asked, failure_of, kinds_of, registry_of, row_of
from tests.brokers import KAFKA_CLIENTS, Library, kafka_client, libraries, nats_client, stop_kafka
from tests.fault_servers import FaultProxy
from tests.faults.figures import SLACK, Record, oversleeping, p99
from tests.servers import OwnKafka, OwnNats

ROUNDS = 20
TIMEOUT_SECONDS = 0.05
ANSWER_EXCESS_SECONDS = 0.050


async def until_up(registry: HealthRegistry) -> None:
    async with asyncio.timeout(20):
        while (await row_of(registry)).state != "up":
            await asyncio.sleep(0.02)


def waiting_for_pongs(client: Any) -> int:
    return len(client._pongs)


async def test_a_frozen_nats_is_down_by_the_deadline_and_up_again(
    own_nats: OwnNats, record: Record
) -> None:
    """Row 1. Its late PONGs are for nobody, and the next flush gets its own.

    Red when `_ask_nats` awaits `client.flush()`: the first late PONG ends the client's read loop.
    """
    control = await oversleeping(TIMEOUT_SECONDS, ROUNDS)
    late: list[float] = []
    async with nats_client(own_nats.port) as client:
        check = MessageBrokerHealthCheck(client)
        registry = registry_of(check, timeout_seconds=TIMEOUT_SECONDS)
        for _ in range(ROUNDS):
            assert (await asked(check)).state == "up"
            own_nats.freeze()
            assert client.is_connected, "it does not know better"
            began = time.perf_counter()
            row = await row_of(registry)
            late.append(time.perf_counter() - began - TIMEOUT_SECONDS)
            own_nats.thaw()
            assert failure_of(row) == ("timeout", None)
            await client.flush(timeout=10)
            assert not waiting_for_pongs(client)
    excess = p99(late) - control
    record(1, "NATS frozen: p99 of the answer over timeout and control", excess * 1e3, "ms")
    assert excess < SLACK * ANSWER_EXCESS_SECONDS


@pytest.mark.parametrize("name", KAFKA_CLIENTS)
async def test_a_frozen_kafka_is_down_by_the_deadline_and_up_again(
    own_kafka: OwnKafka, name: str
) -> None:
    """Row 1. The late answers are for nobody, and the next request gets its own.

    Red when `_ask_kafka` returns up once there are brokers that it could ask.
    """
    client = kafka_client(name, own_kafka.port)
    await client.start()
    check = MessageBrokerHealthCheck(client)
    registry = registry_of(check, timeout_seconds=TIMEOUT_SECONDS)
    for _ in range(3):
        assert (await asked(check)).state == "up"
        own_kafka.freeze()
        assert await kinds_of(registry, 2) == ["timeout"] * 2
        own_kafka.thaw()
        assert (await asked(check)).state == "up"
    own_kafka.kill()
    assert failure_of(await asked(check))[0] == "exception"
    await stop_kafka(client)


@pytest.mark.parametrize("library", libraries(), ids=lambda library: library.name)
async def test_a_broker_that_nothing_reaches_is_down_by_the_deadline(library: Library) -> None:
    """Row 9. Whatever the client believes of its connection, and up again once it has a new one.

    Red when `_Question.answered` does not wait: the connection is open as ever.
    """
    with FaultProxy(library.server.port) as proxy:
        async with AsyncExitStack() as stack:
            client: Any = await stack.enter_async_context(library.client(proxy.port))
            registry = registry_of(MessageBrokerHealthCheck(client), timeout_seconds=0.2)
            assert (await row_of(registry)).state == "up"
            proxy.drop()
            assert await kinds_of(registry, 3) == ["timeout"] * 3
            proxy.pass_through()
            proxy.cut()
            if not library.reconnects:
                await stack.aclose()
                client = await stack.enter_async_context(library.client(proxy.port))
                registry = registry_of(MessageBrokerHealthCheck(client), timeout_seconds=0.2)
            await until_up(registry)


@pytest.mark.parametrize("library", libraries(reconnects=True), ids=lambda library: library.name)
async def test_a_client_that_waits_to_reconnect_is_down_at_once(library: Library) -> None:
    """Row 9. Not by its timeout: it knows that there is nobody to ask.

    Red when `_ask_nats` does not look at `is_connected`: it waits for a PONG on no connection.
    """
    with FaultProxy(library.server.port) as proxy:
        async with library.client(proxy.port) as client:
            registry = registry_of(MessageBrokerHealthCheck(client), timeout_seconds=30)
            assert (await row_of(registry)).state == "up"
            proxy.refuse()
            await asyncio.sleep(0.2)
            for _ in range(3):
                assert failure_of(await row_of(registry)) == ("reported", None)
            proxy.pass_through()
            await until_up(registry)
