"""The shapes that the contract states in its tables and sentences."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from cqrs_ddd_health import (
    DatabaseHealthCheck,
    HealthRegistry,
    HealthSettings,
    InvalidNameError,
    InvalidOptionError,
    MessageBrokerHealthCheck,
    RedisHealthCheck,
)
from cqrs_ddd_health.testing import FakeClock, clean_registry


class Client:
    """A session, a Redis and a broker in one."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def execute(self, statement: str) -> None:
        self.asked.append(statement)

    async def ping(self) -> bool:
        self.asked.append("ping")
        return True

    async def health_check(self) -> bool:
        self.asked.append("health_check")
        return True


async def true_later() -> bool:
    return True


async def none_later() -> None:
    return None


def raises() -> bool:
    raise ConnectionError("refused")


async def raises_later() -> bool:
    raise ConnectionError("refused")


@pytest.fixture
def health() -> Iterator[HealthRegistry]:
    with clean_registry() as registry:
        yield registry


async def last_moment(make: Callable[[FakeClock], HealthRegistry]) -> int:
    """The age in seconds at which a beat is still fresh, and a millisecond later is not."""
    for seconds in (30, 60):
        clock = FakeClock()
        health = make(clock)
        health.heartbeat("worker")
        clock.advance(seconds)
        fresh = await health.check_all()
        clock.advance(0.001)
        if [fresh, await health.check_all()] == [{"worker": "up"}, {"worker": "down"}]:
            return seconds
    raise AssertionError("neither 30 s nor 60 s")


async def test_the_heartbeat_timeout_is_60_seconds() -> None:
    assert await last_moment(lambda clock: HealthRegistry(clock=clock)) == 60


async def test_the_heartbeat_timeout_may_be_said_by_keyword_or_position() -> None:
    by_keyword = await last_moment(
        lambda clock: HealthRegistry(heartbeat_timeout_seconds=30, clock=clock)
    )
    by_position = await last_moment(lambda clock: HealthRegistry(30, clock=clock))
    assert (by_keyword, by_position) == (30, 30)


def test_there_is_one_instance() -> None:
    with clean_registry():
        HealthRegistry.set_instance(None)
        first = HealthRegistry.get_instance()
        assert type(first) is HealthRegistry
        assert HealthRegistry.get_instance() is first
        assert HealthRegistry(heartbeat_timeout_seconds=30) is not first
        assert HealthRegistry.get_instance() is first


async def test_a_known_name_is_replaced(health: HealthRegistry) -> None:
    health.register("first", lambda: False)
    health.register("second", lambda: True)
    health.register("first", lambda: True)
    assert await health.check_all() == {"first": "up", "second": "up"}


@pytest.mark.parametrize(
    ("check", "state"),
    [
        (lambda: True, "up"),
        (lambda: 1, "up"),
        (lambda: "yes", "up"),
        (true_later, "up"),
        (lambda: False, "down"),
        (lambda: 0, "down"),
        (lambda: "", "down"),
        (lambda: None, "down"),
        (none_later, "down"),
        (raises, "down"),
        (raises_later, "down"),
    ],
)
async def test_any_callable_is_up_if_it_returns_something_true(
    health: HealthRegistry, check: Callable[[], object], state: str
) -> None:
    health.register("check", check)
    assert await health.check_all() == {"check": state}


async def test_the_parameters_have_the_names_of_the_reference(health: HealthRegistry) -> None:
    client = Client()
    health.register(name="database", check=DatabaseHealthCheck(session_factory=lambda: client))
    health.register(name="redis", check=RedisHealthCheck(redis_client=client))
    health.register(name="broker", check=MessageBrokerHealthCheck(broker_client=client))
    health.heartbeat(worker_name="worker")
    up = {"database": "up", "redis": "up", "broker": "up", "worker": "up"}
    assert await health.check_all() == up
    assert sorted(client.asked) == ["SELECT 1", "health_check", "ping"]


async def test_check_all_returns_names_and_states(health: HealthRegistry) -> None:
    health.register("fine", lambda: True)
    health.register("broken", lambda: False)
    health.heartbeat("worker")
    components = await health.check_all()
    assert type(components) is dict
    assert {type(state) for state in components.values()} == {str}
    assert components == {"fine": "up", "broken": "down", "worker": "up"}


async def test_status_has_four_keys_and_is_json(health: HealthRegistry) -> None:
    health.heartbeat("worker")
    before = datetime.now(UTC)
    status = await health.status()
    assert list(status) == ["status", "components", "timestamp", "heartbeats"]
    assert json.loads(json.dumps(status)) == status
    for text in (status["timestamp"], status["heartbeats"]["worker"]):
        assert text is not None
        assert text.endswith("+00:00")
        assert abs(datetime.fromisoformat(text) - before) < timedelta(seconds=30)


@pytest.mark.parametrize("broken", ["check", "worker"])
async def test_status_is_healthy_only_if_every_component_is_up(broken: str) -> None:
    clock = FakeClock()
    health = HealthRegistry(clock=clock)
    health.register("check", lambda: True)
    health.heartbeat("worker")
    assert (await health.status())["status"] == "healthy"
    if broken == "check":
        health.register("check", lambda: False)
    else:
        clock.advance(61)
    status = await health.status()
    assert status["status"] == "unhealthy"
    assert status["components"] == {"check": "up", "worker": "up", broken: "down"}


def test_what_is_no_option_no_tag_and_no_registry_is_refused() -> None:
    registry: Any = HealthRegistry()  # for whoever has no type checker
    with pytest.raises(InvalidOptionError, match="options must be a CheckOptions, got dict"):
        registry.register("check", lambda: True, options={"timeout_seconds": 1})
    with pytest.raises(InvalidOptionError, match="tags must be several names"):
        asyncio.run(registry.report(tags=5))
    with pytest.raises(InvalidNameError):
        asyncio.run(registry.report(tags=[[]]))
    with pytest.raises(InvalidOptionError, match="must be a HealthRegistry, got str"):
        registry.set_instance("nonsense")


def test_a_required_name_is_missing_since_the_registry_began() -> None:
    clock = FakeClock()
    registry = HealthRegistry(settings=HealthSettings(required=("database",)), clock=clock)
    began = clock.now()
    clock.advance(60)
    row = asyncio.run(registry.report()).component("database")
    assert row is not None
    assert row.failure is not None
    assert (row.since, row.failure.since) == (began, began)
