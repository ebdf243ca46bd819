"""The store's primary becomes a replica while everybody is connected to it: row 30."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cqrs_ddd_health import ComponentStatus, HealthRegistry
from tests.clients import async_redis, tell
from tests.debian_servers import OwnPgBouncer
from tests.failovers import PAIRS, Pair, pair_of
from tests.fault_servers import FaultProxy
from tests.faults.figures import Record
from tests.processes import LOCALHOST
from tests.servers import OwnPostgres, OwnRedis
from tests.sharing import STORE, WORKER, reading, state, until
from tests.workers import OwnWorker

WORKERS = [f"worker {number}" for number in range(6)]
TIMEOUT_SECONDS = 2.0
STARTING_SECONDS = 60.0


def kind_of(row: ComponentStatus | None) -> str | None:
    return None if row is None or row.failure is None else row.failure.kind


class Witness:
    """Looks at the rows of workers and the store again and again, and keeps what it saw."""

    def __init__(self, registry: HealthRegistry, workers: Sequence[str]) -> None:
        self._registry = registry
        self._names = workers
        self.workers: set[tuple[str, str | None]] = set()
        self.store: list[tuple[str, str | None]] = []
        """What the row of the store said, one after the other."""

    async def look(self) -> None:
        while True:
            report = await self._registry.report()
            rows = [row for name in self._names if (row := report.component(name)) is not None]
            self.workers |= {(row.state, kind_of(row)) for row in rows}
            store = report.component(STORE)
            assert store is not None
            said = store.state, store.failure.message if store.failure else None
            if self.store[-1:] != [said]:
                self.store.append(said)
            await asyncio.sleep(0.1)

    async def sees(self, state: str) -> None:
        """Wait until the row of the store is in that state."""
        while self.store[-1][0] != state:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def witnessed(registry: HealthRegistry, *workers: str) -> AsyncGenerator[Witness]:
    witness = Witness(registry, workers)
    looking = asyncio.create_task(witness.look())
    try:
        yield witness
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def all_up(registry: HealthRegistry, names: Sequence[str], seconds: float) -> None:
    for name in names:
        await until(registry, state("up"), name, seconds=seconds)


@pytest.mark.parametrize("kind", PAIRS)
async def test_six_workers_follow_a_failover_over_and_back(kind: str, record: Record) -> None:
    """Nobody is called dead, however long nothing can be written, and the store's row says why.

    Red when `reconnect` of the store does nothing.
    """
    async with AsyncExitStack() as stack:
        pair: Pair = await stack.enter_async_context(pair_of(kind))
        proxy = stack.enter_context(FaultProxy(pair.port))
        url = pair.url(proxy.port)
        registry = await stack.enter_async_context(reading(url, heartbeat_timeout_seconds=600))
        for name in WORKERS:
            stack.enter_context(OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, name=name))
        registry.heartbeat("here", timeout_seconds=TIMEOUT_SECONDS)
        await all_up(registry, (*WORKERS, STORE), STARTING_SECONDS)
        for _ in range(2):
            async with witnessed(registry, *WORKERS) as witness:
                await pair.fence()
                # Longer than any of them may be silent.
                await asyncio.gather(
                    *(until(registry, state("degraded"), name) for name in (*WORKERS, STORE))
                )
                proxy.lead_to(0)
                await pair.promote()
                proxy.lead_to(pair.port)
                began = time.perf_counter()
                await all_up(registry, (*WORKERS, STORE), 20)
                seconds = time.perf_counter() - began
                record(30, f"{kind}: all are up again after the failover", seconds, "s")
                async with asyncio.timeout(20):
                    await witness.sees("up")
            assert witness.workers == {("up", None), ("degraded", "unavailable")}
            refused = [words for _, words in witness.store if words is not None]
            assert any(words.endswith(pair.refusal) for words in refused), witness.store
            assert witness.store[0] == ("up", None)
        registry.retire("here")


# --- a copy that hears nothing any more


async def test_who_reads_from_a_copy_knows_a_dead_worker_from_a_copy_that_is_cut_off() -> None:
    """Red when `_late` returns nothing; and when `behind_seconds` returns 0 of a replica."""
    with OwnRedis(repl_ping_replica_period="1") as primary, OwnRedis() as replica:
        async with async_redis(replica.port) as client:
            await tell(client, "REPLICAOF", LOCALHOST, str(primary.port))
        async with reading(replica.url) as registry:
            with OwnWorker(primary.url, timeout_seconds=TIMEOUT_SECONDS) as worker:
                await until(registry, state("up"), seconds=STARTING_SECONDS)
                worker.kill()
                row = (await until(registry, state("down"))).component(WORKER)
                assert kind_of(row) == "stale"
            with OwnWorker(primary.url, timeout_seconds=TIMEOUT_SECONDS):
                await until(registry, state("up"), seconds=STARTING_SECONDS)
                async with witnessed(registry, WORKER) as witness:
                    primary.freeze()
                    await until(registry, state("degraded"))
                    await until(registry, state("degraded"), STORE)
                    await asyncio.sleep(2 * TIMEOUT_SECONDS)
                    primary.thaw()
                    await until(registry, state("up"))
                    await until(registry, state("up"), STORE)
                assert witness.workers == {("up", None), ("degraded", "unavailable")}


async def test_who_reads_from_a_standby_that_is_cut_off_calls_nobody_dead() -> None:
    """Red when `_Postgres.behind` says 0 of a standby."""
    with OwnPostgres() as primary, OwnPostgres(primary) as standby:
        url = primary.url("asyncpg")
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS):
            async with reading(url) as registry:
                await until(registry, state("up"), seconds=STARTING_SECONDS)
            async with reading(standby.url("asyncpg")) as registry:
                await until(registry, state("up"))
                async with witnessed(registry, WORKER) as witness:
                    primary.kill()
                    await until(registry, state("degraded"))
                    await asyncio.sleep(2 * TIMEOUT_SECONDS)
                assert witness.workers == {("up", None), ("degraded", "unavailable")}
                report = await registry.report()
                assert kind_of(report.component(STORE)) == "reported"


# --- a pooler


CHILD = """
import asyncio, sys
from cqrs_ddd_health import HealthRegistry

async def main():
    registry = HealthRegistry()
    registry.register_from_settings()
    registry.heartbeat(sys.argv[1])
    await asyncio.sleep(1)
    wrong = []
    for _ in range(170):
        report = await registry.report()
        wrong += [(row.name, row.failure) for row in report.components if row.state != "up"]
        await asyncio.sleep(0.02)
    await registry.aclose()
    print(len(wrong), wrong[:1])

asyncio.run(main())
"""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_checks_and_stores_pass_a_pooler_in_transaction_mode(
    own_postgres: OwnPostgres, driver: str, record: Record
) -> None:
    """Red when `_to_asyncpg` and `_to_psycopg` return what they are given."""
    with OwnPgBouncer(own_postgres.port) as pooler:
        url = pooler.url(driver)
        environment = {
            **os.environ,
            "CQRS_HEALTH_CHECKS__DATABASE__URL": f"{url}?writable=1",
            "CQRS_HEALTH_HEARTBEAT_STORE_URL": url,
            "CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS": "600",
        }
        children = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", CHILD, f"worker {number}"),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number in range(3)
        ]
        ended = await asyncio.gather(*(child.communicate() for child in children))
    wrong = [said.decode().strip() for said, _ in ended]
    assert wrong == ["0 []"] * 3, ended
    record(31, f"behind a pooler, {driver}: wrong of 510 reports of three processes", 0, "reports")
