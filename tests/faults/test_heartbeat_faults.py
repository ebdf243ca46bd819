"""Shared heartbeats while stores and workers fail: rows 3, 4, 9 to 12, 20 and 27."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cqrs_ddd_health import ComponentStatus, HealthRegistry, HeartbeatStore, StoredBeat
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url
from cqrs_ddd_health.heartbeats.stores.redis import RedisHeartbeatStore
from tests.clients import aged, async_redis, tell
from tests.fault_servers import FaultProxy
from tests.faults.figures import Record
from tests.processes import LOCALHOST
from tests.servers import OwnPostgres, OwnRedis
from tests.sharing import STORE, WORKER, is_gone, reading, state, until
from tests.workers import OwnWorker

TIMEOUT_SECONDS = 2.0
HOUR, DAY = 3_600, 86_400


@pytest.fixture
def namespace() -> str:
    return secrets.token_hex(8)


# --- the store


async def test_a_store_that_is_killed_and_started_again_has_the_beats_again(
    own_redis: OwnRedis, namespace: str, record: Record
) -> None:
    """Row 3. It keeps nothing on disk: what it had is gone with it.

    Red when `Publisher._main` publishes only after `_news`.
    """
    async with reading(own_redis.url, namespace) as registry:
        with OwnWorker(own_redis.url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
            await until(registry, state("up"))
            own_redis.kill()
            report = await until(registry, state("degraded"))
            kinds = {row.name: row.failure and row.failure.kind for row in report.components}
            assert kinds == {STORE: "exception", WORKER: "unavailable"}
            own_redis.start()
            began = time.perf_counter()
            await until(registry, state("up"))
            record(3, "store started again: its worker is back", time.perf_counter() - began, "s")


async def emptied(redis: OwnRedis) -> None:
    async with async_redis(redis.port) as client:
        await tell(client, "FLUSHALL")


async def test_a_worker_reappears_in_a_store_that_was_emptied(
    own_redis: OwnRedis, namespace: str, record: Record
) -> None:
    """Row 4. Red as the one above is."""
    async with reading(own_redis.url, namespace) as registry:
        with OwnWorker(own_redis.url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
            await until(registry, state("up"))
            await emptied(own_redis)
            began = time.perf_counter()
            await until(registry, state("up"))
            record(4, "store emptied: its worker is back", time.perf_counter() - began, "s")


@pytest.mark.parametrize(
    ("spoil", "heal"),
    [
        (("REPLICAOF", LOCALHOST, "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    ],
    ids=["read-only", "out of memory"],
)
async def test_a_store_that_takes_no_writes_says_so(
    own_redis: OwnRedis, namespace: str, spoil: tuple[str, ...], heal: tuple[str, ...]
) -> None:
    """Row 4. Red when `SharedHeartbeats._look` does not look at `publisher.failure`."""
    async with reading(own_redis.url, namespace) as registry, async_redis(own_redis.port) as client:
        try:
            await tell(client, *spoil)
            registry.heartbeat("here")
            report = await until(registry, state("degraded", "down"), STORE)
            row = report.component(STORE)
            assert row is not None
            assert row.failure is not None
            assert row.failure.message is not None
            here = report.component("here")
            assert here is not None
            assert here.state == "up"
        finally:
            await tell(client, *heal)
        await until(registry, state("up"), STORE)
        registry.retire("here")


async def test_a_frozen_store_makes_nobody_dead(
    own_redis: OwnRedis, namespace: str, record: Record
) -> None:
    """Row 1, of the store. Red when `worker_outcome` does not look at `unseen`."""
    async with reading(own_redis.url, namespace, check_timeout_seconds=0.5) as registry:
        with OwnWorker(own_redis.url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
            await until(registry, state("up"))
            own_redis.freeze()
            try:
                began = time.perf_counter()
                seen: set[tuple[str, str | None]] = set()
                while time.perf_counter() - began < 3 * TIMEOUT_SECONDS:
                    row = (await registry.report()).component(WORKER)
                    assert row is not None
                    seen.add((row.state, row.failure.kind if row.failure else None))
                    await asyncio.sleep(0.1)
            finally:
                own_redis.thaw()
            # The first look may have been answered before the store stood still.
            assert seen - {("up", None)} == {("degraded", "unavailable")}
            began = time.perf_counter()
            await until(registry, state("up"))
            record(1, "frozen store goes on: its worker is up", time.perf_counter() - began, "s")


async def test_a_database_that_is_killed_and_started_again(
    own_postgres: OwnPostgres, namespace: str, record: Record
) -> None:
    """Row 3, of PostgreSQL. Red when `Publisher._main` publishes only after `_news`."""
    url = own_postgres.url("asyncpg")
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
            await until(registry, state("up"))
            own_postgres.kill()
            await until(registry, state("degraded"))
            own_postgres.start()
            began = time.perf_counter()
            await until(registry, state("up"))
            record(3, "database started again: worker back", time.perf_counter() - began, "s")
            await asyncio.sleep(1.5 * TIMEOUT_SECONDS)  # longer than what was there lasts
            assert state("up")((await registry.report()).component(WORKER))


# --- the network


@pytest.mark.parametrize("direction", ["both", "to_server", "to_client"])
async def test_a_partition_makes_a_worker_stale_and_its_end_alive(
    own_redis: OwnRedis, namespace: str, record: Record, direction: str
) -> None:
    """Row 9. Red when `Publisher._try` waits for a publish without an end."""
    with FaultProxy(own_redis.port) as proxy:
        url = f"redis://{LOCALHOST}:{proxy.port}/0"
        async with reading(own_redis.url, namespace) as registry:
            with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
                await until(registry, state("up"))
                began = time.perf_counter()
                proxy.drop(direction)  # type: ignore[arg-type]  # a literal, by parametrization
                await until(registry, state("down"))
                record(9, f"cut off {direction}: stale", time.perf_counter() - began, "s")
                proxy.pass_through()  # what waits for an answer on an old connection gets none
                began = time.perf_counter()
                report = await until(registry, state("up"))
                record(9, f"cut off {direction}: healed", time.perf_counter() - began, "s")
                assert len(report.heartbeats) == 1


async def test_a_slow_store_does_not_flap(
    own_redis: OwnRedis, namespace: str, record: Record
) -> None:
    """Row 27. Red when a read takes two round trips: `await client.ping()` before the script."""
    check_timeout, flaps = 1.0, 0
    with FaultProxy(own_redis.port) as proxy:
        url = f"redis://{LOCALHOST}:{proxy.port}/0"
        async with reading(url, namespace, check_timeout_seconds=check_timeout) as registry:
            with OwnWorker(own_redis.url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace):
                await until(registry, state("up"))
                proxy.delay(0.3 * check_timeout)
                for _ in range(10):
                    report = await registry.report()
                    flaps += report.status != "healthy"
                proxy.pass_through()
    record(27, "slow store: flaps of 10 reports", flaps, "flaps")
    assert flaps == 0


# --- the workers


async def detected(
    registry: HealthRegistry, condition: Callable[[ComponentStatus | None], bool]
) -> float:
    began = time.perf_counter()
    await until(registry, condition)
    return time.perf_counter() - began


async def test_workers_that_are_killed_stopped_or_double(
    own_redis: OwnRedis, namespace: str, record: Record
) -> None:
    """Row 10. Red when `_elapsed` returns 0: who is killed does not grow old."""
    url = own_redis.url
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            worker.kill()
            seconds = await detected(registry, state("down"))
            record(10, "killed: down", seconds, "s")
            interval = TIMEOUT_SECONDS / 10 * 1.1
            (beat,) = (await registry.report()).heartbeats
            assert beat.age_seconds is not None
            assert beat.publish_interval_seconds == pytest.approx(interval)
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            worker.freeze()
            record(10, "stopped: down", await detected(registry, state("down")), "s")
            worker.thaw()
            record(10, "continued: up", await detected(registry, state("up")), "s")


async def test_a_worker_that_is_frozen_or_stuck_is_down_and_comes_back(
    store_url: str, namespace: str
) -> None:
    async with reading(store_url, namespace) as registry:
        with OwnWorker(store_url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            worker.freeze()
            await until(registry, state("down"))
            worker.thaw()
            await until(registry, state("up"))
            worker.tell("stop")
            await until(registry, state("down"))
            worker.tell("go")
            await until(registry, state("up"))


async def test_a_worker_that_ends_takes_its_rows_along_and_one_that_crashes_leaves_them(
    store_url: str, namespace: str
) -> None:
    async with reading(store_url, namespace) as registry:
        with OwnWorker(store_url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            assert worker.end() == (0, "")
            await until(registry, is_gone)
        with OwnWorker(store_url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            code, said = worker.end("crash")
            assert code == 1
            assert said.endswith("LookupError: told to crash\n")
            await until(registry, state("down"))


async def test_two_processes_under_one_name_are_a_conflict_until_one_ends(
    store_url: str, namespace: str
) -> None:
    arguments: dict[str, Any] = {"timeout_seconds": 5, "namespace": namespace, "instance": "one"}
    async with reading(store_url, namespace) as registry:
        with OwnWorker(store_url, **arguments), OwnWorker(store_url, **arguments) as second:
            report = await until(registry, state("degraded"))
            assert len(report.heartbeats) == 2
            assert second.end() == (0, "")
            await until(registry, state("up"))


# --- clocks


LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def clock_of(offset_seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is so far off; monotonic clocks are right."""
    assert LIBRARIES, "apt-get install faketime"
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME": f"{offset_seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, own_redis: OwnRedis, tmp_path: Path) -> str:
    """The URL of a store on this machine."""
    sqlite = f"sqlite+aiosqlite:///{tmp_path / 'beats.sqlite3'}"
    return own_redis.url if request.param == "redis" else sqlite


@pytest.mark.parametrize("offset", [-DAY, -HOUR, HOUR, DAY])
async def test_wall_clocks_of_workers_change_no_verdict(
    url: str, namespace: str, record: Record, offset: int
) -> None:
    """Row 11. Red when `_since_boot` returns `time.time()`: the clock of the worker."""
    false = 0
    async with reading(url, namespace) as registry:
        with OwnWorker(
            url, timeout_seconds=1.0, namespace=namespace, environment=clock_of(offset)
        ) as worker:
            await until(registry, state("up"))
            for _ in range(20):
                false += not state("up")((await registry.report()).component(WORKER))
                await asyncio.sleep(0.1)
            for _ in range(3):  # who has seen nothing before has the stamps alone to go by
                async with reading(url, namespace) as newcomer:
                    false += not state("up")((await newcomer.report()).component(WORKER))
            worker.kill()
            await until(registry, state("down"))
    kind = url.partition(":")[0]
    record(11, f"wall clock {offset:+d} s, {kind}: false verdicts of 23", false, "verdicts")
    assert false == 0


async def test_a_beat_from_the_future_is_not_immortal(own_redis: OwnRedis, namespace: str) -> None:
    """Row 12. Red when `_looked` leaves a doubtful beat out however long it stays so."""
    store = RedisHeartbeatStore(own_redis.url, namespace=namespace)
    await store.publish([StoredBeat(WORKER, "1", "token", 1, 0.0, 1.0, 0.1)])
    # What it held an hour from now, as if its clock had been set back since.
    async with async_redis(own_redis.port) as client:
        await aged(client, store._keys, -HOUR)
    async with reading(own_redis.url, namespace) as registry:
        await until(registry, state("down"))
    await store.close()


# --- many


MANY = 100_000


async def published(store: HeartbeatStore, beats: list[StoredBeat]) -> None:
    for at in range(0, len(beats), 5_000):
        await store.publish(beats[at : at + 5_000])


async def test_a_hundred_thousand_workers_leave_the_report_bounded(
    url: str, namespace: str, record: Record
) -> None:
    """Row 20. Red when `fetched` never asks for `reads.living`; of Redis there are two bounds."""
    kind = url.partition(":")[0]
    store = store_from_url(url, namespace)
    beats = [StoredBeat(f"worker {n % 500}", str(n), "token", 1, 0.5, 600.0) for n in range(MANY)]
    try:
        await published(store, beats)
        async with reading(url, namespace, check_timeout_seconds=30) as registry:
            began = time.perf_counter()
            report = await registry.report()
            record(20, f"{MANY} instances, {kind}: report", time.perf_counter() - began, "s")
        row = report.component(STORE)
        assert row is not None
        assert row.state == "up"
        assert row.details["dropped"] == MANY - 10_000
        assert len(report.heartbeats) <= 200 + 500
        assert len(report.model_dump_json()) < 1_000_000
    finally:
        await store.close()
