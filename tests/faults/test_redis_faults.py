"""Redis that freezes, is cut off in mid-command, or is killed: rows 1 to 3."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
import redis.asyncio

from cqrs_ddd_health import HealthRegistry, RedisHealthCheck
from tests.asking import NAME, asked, failure_of, kinds_of, registry_of, row_of
from tests.clients import async_redis, sync_redis, tell
from tests.fault_servers import FaultProxy
from tests.faults.figures import SLACK, Record, oversleeping, p99
from tests.servers import OwnRedis

ROUNDS = 50
TIMEOUT_SECONDS = 0.05
ANSWER_EXCESS_SECONDS = 0.050


async def test_a_frozen_redis_is_down_by_the_deadline(own_redis: OwnRedis, record: Record) -> None:
    """Row 1. Each round finds an idle connection to a server that never answers.

    Red when `Runner._timer` calls `call_later(delay + 1, ...)`.
    """
    control = await oversleeping(TIMEOUT_SECONDS, ROUNDS)
    late: list[float] = []
    for _ in range(ROUNDS):
        async with async_redis(own_redis.port) as client:
            check = RedisHealthCheck(client)
            assert (await asked(check)).state == "up"
            registry = registry_of(check, timeout_seconds=TIMEOUT_SECONDS)
            own_redis.freeze()
            began = time.perf_counter()
            row = await row_of(registry)
            late.append(time.perf_counter() - began - TIMEOUT_SECONDS)
            own_redis.thaw()
            assert failure_of(row) == ("timeout", None)
            assert (await asked(check)).state == "up"
    excess = p99(late) - control
    record(1, "Redis frozen: p99 of the answer over timeout and control", excess * 1e3, "ms")
    assert excess < SLACK * ANSWER_EXCESS_SECONDS


async def test_a_frozen_redis_occupies_one_thread_of_a_sync_client(own_redis: OwnRedis) -> None:
    """Row 1. The thread ends when the server goes on, and the check is asked again.

    Red when `Flight.hold` does nothing.
    """
    with sync_redis(own_redis.port) as client:
        registry = registry_of(RedisHealthCheck(client), timeout_seconds=0.1)
        assert (await row_of(registry)).state == "up"
        own_redis.freeze()
        assert await kinds_of(registry, 4) == ["timeout", "hung", "hung", "hung"]
        assert registry.hung_checks == 1
        own_redis.thaw()
        async with asyncio.timeout(10):
            while registry.hung_checks:
                await asyncio.sleep(0.01)
        assert (await row_of(registry)).state == "up"


CANCELS = 10_000
CLIENTS = 20
DELAY_SECONDS = 0.004


@pytest.mark.parametrize("single", [False, True], ids=["pool", "single_connection"])
async def test_a_client_cut_off_in_mid_ping_gives_right_replies_after(
    own_redis: OwnRedis, record: Record, single: bool
) -> None:
    """Row 2. A late reply must not be taken for the answer to the next command.

    Red when `_call` takes a connection out of the pool, sends PING on it and gives it back in a
    `finally`, reading its reply with `disconnect_on_error=False`.
    """
    cancels = CANCELS if not single else CANCELS // 10
    with FaultProxy(own_redis.port) as proxy:
        proxy.delay(DELAY_SECONDS, "to_client")
        wrong = await asyncio.gather(
            *(wrong_replies(proxy.port, cancels // CLIENTS, at, single) for at in range(CLIENTS))
        )
    words = "one connection" if single else "a pool"
    record(2, f"wrong replies after {cancels} cancels in mid-PING, {words}", sum(wrong), "replies")
    assert sum(wrong) == 0


async def wrong_replies(port: int, cancels: int, number: int, single: bool) -> int:
    """Cut one client off so many times; return how many commands after it were answered wrongly."""
    chance = random.Random(number)
    wrong = 0
    async with async_redis(port, single_connection_client=single) as client:
        check, registry = RedisHealthCheck(client), HealthRegistry()
        turn = 0
        while turn < cancels:
            timeout = chance.uniform(0.1, 0.9) * DELAY_SECONDS
            key = f"key {number}"
            await tell(client, "SET", key, turn)
            registry.register(NAME, check, timeout_seconds=timeout)
            row = await row_of(registry)
            turned = str(turn).encode()
            if row.failure is None:
                continue  # the loop was late, and so was the reply: it was not cut off
            turn += 1
            assert failure_of(row) == ("timeout", None)
            replies = [
                await tell(client, "GET", key),
                await tell(client, "PING"),
                await tell(client, "GET", key),
            ]
            wrong += replies != [turned, True, turned]
    return wrong


async def test_no_connection_is_lost_by_cutting_off(own_redis: OwnRedis) -> None:
    """Row 2. A pool of two connections survives any number of timeouts.

    Red when `_cut_off` does not cancel the task: the connection is never given back.
    """
    with FaultProxy(own_redis.port) as proxy:
        async with async_redis(proxy.port, max_connections=2) as client:
            check = RedisHealthCheck(client)
            registry = registry_of(check, timeout_seconds=0.02)
            for _ in range(50):
                proxy.pass_through()
                assert (await asked(check)).state == "up"
                proxy.delay(0.04)
                assert failure_of(await row_of(registry)) == ("timeout", None)
            proxy.pass_through()
            assert await tell(client, "PING") is True


PERIOD_SECONDS = 0.1


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_redis_that_is_killed_is_up_within_a_period_of_its_return(
    own_redis: OwnRedis, record: Record, kind: str
) -> None:
    """Row 3. No connection, failure or back-off of before stands in the way.

    Red when `RedisHealthCheck.check` takes `True` for the answer to PING.
    """
    client: redis.Redis | redis.asyncio.Redis
    client = async_redis(own_redis.port) if kind == "async" else sync_redis(own_redis.port)
    registry = HealthRegistry()
    registry.register(NAME, RedisHealthCheck(client), timeout_seconds=1)
    for _ in range(3):
        assert (await row_of(registry)).state == "up"
        own_redis.kill()
        for _ in range(5):
            assert failure_of(await row_of(registry)) == ("exception", "ConnectionError")
        own_redis.start()
        began = time.perf_counter()
        while (await row_of(registry)).state != "up":
            assert time.perf_counter() - began < 10
            await asyncio.sleep(PERIOD_SECONDS)
        seconds = time.perf_counter() - began
        record(3, f"Redis killed and restarted: recovery, {kind} client", seconds, "s")
        assert seconds < SLACK * PERIOD_SECONDS
    if isinstance(client, redis.asyncio.Redis):
        await client.aclose()
    else:
        client.close()
