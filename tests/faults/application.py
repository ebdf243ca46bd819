"""An application with a client of each kind, asked for its health from everywhere at once.

`python -m tests.faults.application HOW SECONDS` runs it for so long and prints, in one line, how
many queries of its own it made, how many reports there were, and what of both went wrong. It runs
in a process of its own, since a client that is used on two loops may end that by a segmentation
fault.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import redis.asyncio
from anyio import to_thread
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cqrs_ddd_health import (
    DatabaseHealthCheck,
    HealthRegistry,
    HealthServer,
    HealthSettings,
    MessageBrokerHealthCheck,
    RedisHealthCheck,
)
from cqrs_ddd_health.prometheus import start_metrics_server
from tests.brokers import nats_client, plain_pika
from tests.clients import async_redis, tell
from tests.processes import LOCALHOST
from tests.servers import KNOWN_SERVERS

THREADS = 20
SERVERS = {server.name: server for server in KNOWN_SERVERS}
health = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0.05, detail="full"))
engines = {
    "postgresql": create_async_engine(SERVERS["postgresql"].url_for("asyncpg")),
    "mariadb": create_async_engine(SERVERS["mariadb"].url_for("aiomysql")),
}
for name, engine in engines.items():
    health.register(name, DatabaseHealthCheck(engine.connect))


class Seen:
    """What went well and what did not."""

    def __init__(self) -> None:
        self.queries = 0
        self.reports = 0
        self.wrong: Counter[str] = Counter()
        self.over = threading.Event()

    def row(self, name: str, state: str, failure: object) -> None:
        if state != "up":
            self.wrong[f"{name} {state} {failure}"] += 1


seen = Seen()


async def query(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.execute(text("SELECT 1"))


async def use(ask: Callable[[], Awaitable[object]], name: str) -> None:
    """Use a client of the application as it does, again and again."""
    while not seen.over.is_set():
        try:
            async with asyncio.timeout(10):
                await ask()
        except Exception as error:
            seen.wrong[f"application, {name}: {type(error).__name__}"] += 1
        seen.queries += 1
        await asyncio.sleep(0.002)


def look() -> None:
    """Ask once as sync code does."""
    for row in health.report_sync(max_age_seconds=0.01).components:
        seen.row(row.name, row.state, row.failure)
    seen.reports += 1


def again(what: Callable[[], None], pause: float) -> None:
    while not seen.over.is_set():
        what()
        time.sleep(pause)


async def ask_here() -> None:
    while not seen.over.is_set():
        for row in (await health.report(max_age_seconds=0.01)).components:
            seen.row(row.name, row.state, row.failure)
        seen.reports += 1
        await asyncio.sleep(0.01)


async def endpoint() -> None:
    """Ask as a sync endpoint of FastAPI does, on a worker thread of AnyIO."""
    while not seen.over.is_set():
        await to_thread.run_sync(look)
        await asyncio.sleep(0.01)


def scrape(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body = answer.read().decode()
    if url.endswith("/metrics"):
        ups = [line for line in body.splitlines() if line.startswith("cqrs_health_component_up{")]
        for line in ups:
            seen.row(line, "up" if line.endswith(" 1.0") else "down", None)
    else:
        document: Mapping[str, list[dict[str, str]]] = json.loads(body)
        for row in document["components"]:
            seen.row(row["name"], row["state"], row.get("failure"))
    seen.reports += 1


async def work(seconds: float, urls: list[str]) -> None:
    """Be the application for so long."""
    async with AsyncExitStack() as stack:
        cache: redis.asyncio.Redis = async_redis(SERVERS["redis"].port)
        stack.push_async_callback(cache.aclose)
        pika = await stack.enter_async_context(plain_pika(SERVERS["rabbitmq"].port))
        nats = await stack.enter_async_context(nats_client(SERVERS["nats"].port))
        health.register("redis", RedisHealthCheck(cache))
        health.register("rabbitmq", MessageBrokerHealthCheck(pika))
        health.register("nats", MessageBrokerHealthCheck(nats))
        for engine in engines.values():
            stack.push_async_callback(engine.dispose)

        async def open_channel() -> None:
            channel = await pika.channel()
            await channel.close()

        await health.report()  # the application has said where its clients live
        threads = [
            *(threading.Thread(target=again, args=(look, 0.02)) for _ in range(THREADS)),
            *(threading.Thread(target=again, args=(partial(scrape, url), 0.02)) for url in urls),
        ]
        for thread in threads:
            thread.start()
        async with asyncio.TaskGroup() as tasks:
            for name, engine in engines.items():
                tasks.create_task(use(partial(query, engine), name))
            tasks.create_task(use(partial(tell, cache, "PING"), "redis"))
            tasks.create_task(use(nats.flush, "nats"))
            tasks.create_task(use(open_channel, "rabbitmq"))
            tasks.create_task(ask_here())
            tasks.create_task(endpoint())
            await asyncio.sleep(seconds)
            seen.over.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)


async def inside(seconds: float) -> None:
    async with HealthServer(health, LOCALHOST, 0) as server:
        with start_metrics_server(health, 0) as metrics:
            await work(seconds, [f"{server.url}/health/report", f"{metrics.url}/metrics"])


def main(how: str, seconds: float) -> None:
    if how == "inside":
        asyncio.run(inside(seconds))
    else:  # everything is started, and asked, before there is a loop
        with ExitStack() as stack:
            server = stack.enter_context(HealthServer(health, LOCALHOST, 0))
            metrics = stack.enter_context(start_metrics_server(health, 0))
            early = health.report_sync()
            assert {row.failure and row.failure.kind for row in early.components} == {"pending"}
            asyncio.run(work(seconds, [f"{server.url}/health/report", f"{metrics.url}/metrics"]))
    health.close()
    found = {"queries": seen.queries, "reports": seen.reports, "wrong": seen.wrong}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
