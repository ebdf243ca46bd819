"""Fixtures for every suite.

The servers are imported where a fixture starts one: tests/core runs without what they need.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from cqrs_ddd_health.domain import redaction as texts
from tests.examples import examples

if TYPE_CHECKING:
    from tests.servers import OwnKafka, OwnNats, OwnPostgres, OwnRedis

# They are no test module, and are to say as much when they fail.
pytest.register_assert_rewrite("tests.core.actors", "tests.store_cases")


# A shell without job control has what it starts in the background ignore Ctrl-C, and so would
# everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile(
    "busy",
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="run the tests in the random order of that seed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed: int | None = config.getoption("shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)


@pytest.fixture(autouse=True)
def _hides_secrets_from_no_other_test() -> Iterator[None]:
    before = texts._hidden
    texts._hidden = copy(before)
    yield
    texts._hidden = before


@pytest.fixture(scope="session")
def started_redis() -> Iterator[OwnRedis]:
    from tests.servers import OwnRedis

    with OwnRedis() as server:
        yield server


@pytest.fixture(scope="session")
def started_postgres() -> Iterator[OwnPostgres]:
    from tests.servers import OwnPostgres

    with OwnPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def started_nats() -> Iterator[OwnNats]:
    from tests.servers import OwnNats

    with OwnNats() as server:
        yield server


@pytest.fixture(scope="session")
def started_kafka() -> Iterator[OwnKafka]:
    from tests.servers import OwnKafka

    with OwnKafka() as server:
        yield server


@pytest.fixture
def own_redis(started_redis: OwnRedis) -> OwnRedis:
    """A Redis of our own, running and ready; the test may freeze, stop or kill it."""
    started_redis.recover()
    return started_redis


@pytest.fixture
def own_postgres(started_postgres: OwnPostgres) -> OwnPostgres:
    """A PostgreSQL of our own, running and ready; the test may freeze, stop or kill it."""
    started_postgres.recover()
    return started_postgres


@pytest.fixture
def own_nats(started_nats: OwnNats) -> OwnNats:
    """A NATS of our own, running and ready; the test may freeze, stop or kill it."""
    started_nats.recover()
    return started_nats


@pytest.fixture
def own_kafka(started_kafka: OwnKafka) -> OwnKafka:
    """A Kafka of our own, running and ready; the test may freeze, stop or kill it."""
    started_kafka.recover()
    return started_kafka


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_url" in metafunc.fixturenames:
        from tests.servers import shared_servers

        shared = [server.name for server in shared_servers("mariadb")]
        metafunc.parametrize("store_url", ["sqlite", "postgresql", "redis", *shared], indirect=True)


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a heartbeat store, on each kind of server that is there."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'beats.sqlite3'}"
    if request.param == "redis":
        redis: OwnRedis = request.getfixturevalue("own_redis")
        return redis.url
    if request.param == "postgresql":
        postgres: OwnPostgres = request.getfixturevalue("own_postgres")
        return postgres.url("asyncpg")
    from tests.servers import shared_servers

    (server,) = shared_servers(request.param)
    return server.url_for("aiomysql")


@pytest.fixture
def unchanged_sigterm() -> Iterator[None]:
    """SIGTERM ends as it began, and does not end the run of a test that fails."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    left = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    wakeup = signal.set_wakeup_fd(-1)
    assert (type(left).__name__ == "_Link", wakeup) == (False, -1)
