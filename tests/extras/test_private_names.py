"""What the package takes from other libraries that they do not promise to keep, in one list.

Where one of these goes, the test says which, what it was for, and the release it was last seen in.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import multiprocessing.util
import platform
import threading
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import aio_pika
import aiomqtt
import aiormq
import anyio.to_thread
import nats.aio.client
import prometheus_client
import pydantic
import pydantic_settings
import pytest
import redis
import redis.asyncio
import sqlalchemy

import cqrs_ddd_health
from tests.core.foreign_names import defined_names, foreign_private_names
from tests.core.imports import modules_of


class Unpromised(NamedTuple):
    """A name that its library may rename in any release."""

    library: str
    """The distribution, or CPython."""

    last_seen: str
    """The newest release that it was seen in."""

    name: str
    use: str
    """What of the package needs it."""

    owner: Callable[[], object]
    """Returns what has the name, or awaits it."""

    @property
    def installed(self) -> str:
        is_python = self.library == "CPython"
        return platform.python_version() if is_python else importlib.metadata.version(self.library)


def task_of_now() -> object:
    return asyncio.current_task()


def keywords_of_settings() -> object:
    return SimpleNamespace(**inspect.signature(pydantic_settings.BaseSettings.__init__).parameters)


def annotations_of_amqp() -> object:
    return SimpleNamespace(**inspect.get_annotations(aiormq.Connection))


async def worker_thread() -> object:
    return await anyio.to_thread.run_sync(threading.current_thread)


def kafka_module(name: str) -> Any:
    """Return a module of aiokafka, which has no types."""
    return import_module(f"aiokafka.{name}")


async def closed_kafka(name: str) -> object:
    """Return a client that was never connected, and complains of nothing when it goes."""
    client = getattr(import_module("aiokafka"), name)()
    await client.stop()
    return client


def queue_pool() -> object:
    return sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.QueuePool).pool


GREENLETS = "whose loop runs where threads are greenlets"
POOL, FORKED = "the numbers of a Redis pool", "good-byes of a forked child"
KAFKA, FAST = "round trips to Kafka", "rows with a new measurement, made fast"
LOOP_END, FILES = "an end of the loop that waits for no hung check", "the files of settings"
UNPROMISED = (
    Unpromised("CPython", "3.13.0", "_unregister_task", LOOP_END, lambda: asyncio),
    Unpromised("CPython", "3.13.0", "_log_destroy_pending", LOOP_END, task_of_now),
    Unpromised("CPython", "3.13.0", "_thread_id", GREENLETS, asyncio.get_running_loop),
    Unpromised("CPython", "3.13.0", "Finalize", FORKED, lambda: multiprocessing.util),
    Unpromised("pydantic", "2.14.4", "__pydantic_extra__", FAST, lambda: pydantic.BaseModel),
    Unpromised("pydantic", "2.14.4", "__pydantic_fields_set__", FAST, lambda: pydantic.BaseModel),
    Unpromised("pydantic", "2.14.4", "__pydantic_private__", FAST, lambda: pydantic.BaseModel),
    Unpromised("pydantic-settings", "2.16.3", "_env_file", FILES, keywords_of_settings),
    Unpromised("pydantic-settings", "2.16.3", "_secrets_dir", FILES, keywords_of_settings),
    Unpromised("redis", "8.1.0", "_in_use_connections", POOL, redis.ConnectionPool),
    Unpromised("redis", "8.1.0", "_in_use_connections", POOL, redis.asyncio.ConnectionPool),
    Unpromised("redis", "8.1.0", "_available_connections", POOL, redis.ConnectionPool),
    Unpromised("redis", "8.1.0", "_available_connections", POOL, redis.asyncio.ConnectionPool),
    Unpromised("sqlalchemy", "2.1.9", "_max_overflow", "PoolSaturationHealthCheck", queue_pool),
    Unpromised(
        "prometheus-client",
        "0.26.0",
        "_names_to_collectors",
        "names in use, in an error",
        prometheus_client.CollectorRegistry,
    ),
    Unpromised("anyio", "4.16.0", "loop", "the loop of a sync endpoint", worker_thread),
    Unpromised(
        "aio-pika",
        "10.2.1",
        "transport",
        "round trips to RabbitMQ",
        lambda: aio_pika.Connection(aio_pika.connection.make_url("amqp://localhost")),
    ),
    Unpromised(
        "aiormq", "7.2.4", "server_properties", "the version of RabbitMQ", annotations_of_amqp
    ),
    Unpromised(
        "nats-py", "2.16.0", "_send_ping", "round trips to NATS", lambda: nats.aio.client.Client
    ),
    Unpromised(
        "aiomqtt",
        "2.5.1",
        "_disconnected",
        "a lost MQTT connection, seen at once",
        lambda: aiomqtt.Client("localhost"),
    ),
    Unpromised("aiokafka", "0.14.0", "client", KAFKA, lambda: closed_kafka("AIOKafkaProducer")),
    Unpromised("aiokafka", "0.14.0", "_client", KAFKA, lambda: closed_kafka("AIOKafkaConsumer")),
    Unpromised(
        "aiokafka", "0.14.0", "_client", KAFKA, lambda: kafka_module("admin").AIOKafkaAdminClient()
    ),
    Unpromised(
        "aiokafka", "0.14.0", "_sync_task", KAFKA, lambda: kafka_module("client").AIOKafkaClient()
    ),
    Unpromised(
        "aiokafka", "0.14.0", "cluster", KAFKA, lambda: kafka_module("client").AIOKafkaClient()
    ),
    Unpromised("aiokafka", "0.14.0", "AIOKafkaConnection", KAFKA, lambda: kafka_module("conn")),
    Unpromised(
        "aiokafka", "0.14.0", "MetadataRequest", KAFKA, lambda: kafka_module("protocol.metadata")
    ),
)


async def is_gone(one: Unpromised) -> bool:
    owner = one.owner()
    if inspect.iscoroutine(owner):
        owner = await cast("Coroutine[None, None, object]", owner)
    return not hasattr(owner, one.name)


@pytest.mark.parametrize("one", UNPROMISED, ids=lambda one: f"{one.library}-{one.name}")
async def test_it_is_still_there(one: Unpromised) -> None:
    assert not await is_gone(one), (
        f"{one.library} {one.installed} has no {one.name}, which was last seen in {one.last_seen}; "
        f"the package needs it for {one.use}"
    )


async def test_a_name_that_went_is_noticed() -> None:
    assert await is_gone(UNPROMISED[0]._replace(name="_renamed"))


def test_the_list_has_every_private_name_that_is_used() -> None:
    sources = modules_of(Path(cqrs_ddd_health.__file__).parent).values()
    inherited = set[str]().union(*map(defined_names, sources))
    used = set[str]().union(*(foreign_private_names(source, inherited) for source in sources))
    assert used == {one.name for one in UNPROMISED if one.name.startswith("_")}
