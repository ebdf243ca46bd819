"""Shared heartbeats against the least that a store could cost: its driver's own batch and fetch.

On the servers of this machine that answer, in a database or a namespace of its own, which is
dropped.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import asyncpg
import redis.asyncio

from cqrs_ddd_health import HealthRegistry, HealthSettings, HeartbeatStore, StoredBeat
from cqrs_ddd_health.heartbeats.publisher import MAX_INTERVAL_SECONDS
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url
from cqrs_ddd_health.runtime.clock import JITTER

from .measure import Result, after, async_timer, at_most, compared, judged, taking_turns

__all__ = ["measure"]

SUBJECT = "stores"
PUBLISHED, READ = 1_000, 10_000
PROCESSES, VIRTUAL_SECONDS, BINS_PER_SECOND = 10_000, 600, 10
TABLE = f"cqrs_health_bench_{secrets.token_hex(4)}"
"""The name of the drivers' own table, and of the database and the namespace that are used."""

_PUBLISH, _REPORT, _STEADY = at_most(2.0), at_most(3.0), at_most(2.0)
_COLUMNS = (
    f"CREATE TABLE {TABLE} (worker VARCHAR(128), instance VARCHAR(128), token VARCHAR(32), "
    "publish_number BIGINT, age_seconds DOUBLE PRECISION, timeout_seconds DOUBLE PRECISION, "
    "publish_interval_seconds DOUBLE PRECISION, phase VARCHAR(128), progress BIGINT, "
    "stamp DOUBLE PRECISION, PRIMARY KEY (worker, instance, token))"
)
_SET = ", ".join(
    f"{name} = {{0}}"
    for name in ("publish_number", "age_seconds", "timeout_seconds", "phase", "progress", "stamp")
)

Rows = Sequence[Sequence[object]]
Act = Callable[[], Coroutine[object, object, object]]


class Bare(NamedTuple):
    """What a driver does without us."""

    write: Callable[[Rows], Coroutine[object, object, object]]
    fetch: Act


def measure(rounds: int) -> Iterable[Result]:
    """Compare publishing and reading on each store, and let a fleet publish in virtual time."""
    ratios = [_busiest(random.Random(seed)) for seed in range(rounds)]
    what = f"{PROCESSES:,} workers that publish: busiest 100 ms / mean"
    yield judged(SUBJECT, what, ratios, "", _STEADY, note=f"{VIRTUAL_SECONDS} s of virtual time")
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        for name, (url, bare) in _stores(Path(directory)).items():
            yield from _of_store(runner, name, url, bare, rounds)


def _of_store(
    runner: asyncio.Runner,
    name: str,
    url: str,
    bare: Callable[[AsyncExitStack], Coroutine[object, object, Bare]],
    rounds: int,
) -> Iterable[Result]:
    """Compare one store with its driver."""
    stack = AsyncExitStack()
    store = store_from_url(url, TABLE)
    try:
        theirs = runner.run(bare(stack))
    except OSError:
        return  # no such server here
    beats = [_beat(number) for number in range(READ)]
    some = beats[:PUBLISHED]
    mine, other = taking_turns(
        async_timer(runner, lambda: store.publish(some)),
        async_timer(runner, lambda: theirs.write(some)),
        rounds=rounds,
        calls=1,
    )
    what = f"{name}: publish of {PUBLISHED:,}, against its driver's batch"
    yield compared(SUBJECT, what, mine, other, _PUBLISH)
    registry = _reader(url)
    chance, numbers = random.Random(0), count(1)

    def publish_all() -> None:
        """As a fleet does between two looks: in any order, with another number and another age."""
        chance.shuffle(beats)
        number = next(numbers)
        again = [
            beat._replace(publish_number=number, age_seconds=chance.random()) for beat in beats
        ]
        runner.run(_fill(store, theirs, again))

    mine, other = taking_turns(
        after(publish_all, async_timer(runner, lambda: _read(registry))),
        async_timer(runner, theirs.fetch),
        rounds=rounds,
        calls=1,
    )
    what = f"{name}: report over {READ:,}, against a bare fetch"
    yield compared(SUBJECT, what, mine, other, _REPORT)
    runner.run(store.close())
    runner.run(registry.aclose())
    runner.run(stack.aclose())


async def _fill(store: HeartbeatStore, bare: Bare, beats: Sequence[StoredBeat]) -> None:
    for at in range(0, len(beats), PUBLISHED):
        await store.publish(beats[at : at + PUBLISHED])
        await bare.write(beats[at : at + PUBLISHED])


def _reader(url: str) -> HealthRegistry:
    return HealthRegistry(
        settings=HealthSettings.model_validate(
            {"heartbeat_store_url": url, "heartbeat_store_namespace": TABLE}
        )
    )


async def _read(registry: HealthRegistry) -> None:
    report = await registry.report()
    assert len(report.components) > 1, report


def _beat(number: int) -> StoredBeat:
    worker, instance = f"worker {number % 100}", f"host-{number}:4711:0a1b2c3d"
    return StoredBeat(worker, instance, "0a1b2c3d", 1, 0.5, 600.0, 5.0, "busy", number, 0.0)


def _busiest(chance: random.Random) -> float:
    """Return how many publishes fall into the busiest 100 ms, to the mean, the first left out.

    The first is at once, whenever its process starts; each further one is a jittered interval on.
    """
    bins: Counter[int] = Counter()
    for _ in range(PROCESSES):
        at = MAX_INTERVAL_SECONDS * chance.random()
        while at < VIRTUAL_SECONDS:
            bins[int(at * BINS_PER_SECOND)] += 1
            at += MAX_INTERVAL_SECONDS * (1 + JITTER * (2 * chance.random() - 1))
    return max(bins.values()) / (bins.total() / (VIRTUAL_SECONDS * BINS_PER_SECOND))


# ------------------------------------------------------------------ the drivers


def _stores(
    directory: Path,
) -> dict[str, tuple[str, Callable[[AsyncExitStack], Coroutine[object, object, Bare]]]]:
    async def sqlite(stack: AsyncExitStack) -> Bare:
        return await stack.enter_async_context(_sqlite(directory / "bare.sqlite3"))

    async def postgres(stack: AsyncExitStack) -> Bare:
        return await stack.enter_async_context(_postgres())

    async def mariadb(stack: AsyncExitStack) -> Bare:
        return await stack.enter_async_context(_mariadb())

    async def in_redis(stack: AsyncExitStack) -> Bare:
        return await stack.enter_async_context(_redis())

    return {
        "SQLite": (f"sqlite+aiosqlite:///{directory / 'ours.sqlite3'}", sqlite),
        "PostgreSQL": (f"postgresql+asyncpg://root@127.0.0.1:5432/{TABLE}", postgres),
        "MariaDB": (f"mysql+aiomysql://root@127.0.0.1:3306/{TABLE}", mariadb),
        "Redis": ("redis://127.0.0.1:6379/0", in_redis),
    }


@asynccontextmanager
async def _sqlite(file: Path) -> AsyncGenerator[Bare]:
    async with aiosqlite.connect(file) as connection:
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute(_COLUMNS)
        upsert = (
            f"INSERT INTO {TABLE} VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
            + ", ".join(part.format(f"excluded.{part.split(' =')[0]}") for part in _SET.split(", "))
        )

        async def write(rows: Rows) -> None:
            await connection.executemany(upsert, rows)
            await connection.commit()

        async def fetch() -> None:
            await connection.execute_fetchall(f"SELECT * FROM {TABLE}")

        yield Bare(write, fetch)


@asynccontextmanager
async def _postgres() -> AsyncGenerator[Bare]:
    server: Any = await asyncpg.connect("postgresql://root@127.0.0.1:5432/test")
    await server.execute(f"CREATE DATABASE {TABLE}")
    connection: Any = await asyncpg.connect(f"postgresql://root@127.0.0.1:5432/{TABLE}")
    await connection.execute(_COLUMNS)
    upsert = (
        f"INSERT INTO {TABLE} VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) "
        "ON CONFLICT (worker, instance, token) DO UPDATE SET "
        + ", ".join(part.format(f"excluded.{part.split(' =')[0]}") for part in _SET.split(", "))
    )

    async def write(rows: Rows) -> None:
        await connection.executemany(upsert, rows)

    async def fetch() -> None:
        await connection.fetch(f"SELECT * FROM {TABLE}")

    try:
        yield Bare(write, fetch)
    finally:
        await connection.close()
        await server.execute(f"DROP DATABASE {TABLE}")
        await server.close()


@asynccontextmanager
async def _mariadb() -> AsyncGenerator[Bare]:
    library: Any = import_module("aiomysql")  # which has no types
    connection: Any = await library.connect(host="127.0.0.1", user="root")
    cursor: Any = await connection.cursor()
    await cursor.execute(f"CREATE DATABASE {TABLE}")
    await cursor.execute(f"USE {TABLE}")
    await cursor.execute(_COLUMNS)
    upsert = (
        f"INSERT INTO {TABLE} VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s) ON DUPLICATE KEY UPDATE "
        + ", ".join(part.format(f"VALUES({part.split(' =')[0]})") for part in _SET.split(", "))
    )

    async def write(rows: Rows) -> None:
        await cursor.executemany(upsert, rows)
        await connection.commit()

    async def fetch() -> None:
        await cursor.execute(f"SELECT * FROM {TABLE}")
        await cursor.fetchall()

    try:
        yield Bare(write, fetch)
    finally:
        await cursor.execute(f"DROP DATABASE {TABLE}")
        connection.close()


@asynccontextmanager
async def _redis() -> AsyncGenerator[Bare]:
    client: Any = redis.asyncio.Redis(host="127.0.0.1")

    async def write(rows: Rows) -> None:
        async with client.pipeline(transaction=True) as pipeline:
            for row in rows:
                pipeline.hset(TABLE, "\n".join(map(str, row[:3])), json.dumps(row))
            await pipeline.execute()

    async def fetch() -> None:
        await client.hvals(TABLE)

    try:
        yield Bare(write, fetch)
    finally:
        ours = [f"{{cqrs-health:{TABLE}}}:{key}" for key in ("beats", "kept", "last")]
        await client.delete(TABLE, *ours)
        await client.aclose()
