"""A service that is configured by environment alone, with every kind of server there is."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import URL

from cqrs_ddd_health import HealthRegistry, HealthSettings, SettingsError
from cqrs_ddd_health.checks.connected import ConnectedCheck
from cqrs_ddd_health.checks.from_url import check_from_url
from cqrs_ddd_health.domain.redaction import safe_text
from cqrs_ddd_health.errors import InvalidOptionError
from tests.clients import async_redis, tell
from tests.core.actors import row_of
from tests.processes import LOCALHOST, free_port
from tests.servers import OwnNats, OwnPostgres, OwnRedis, shared_servers

PASSWORDS = ["p@ss", "p#ss", "p/ss", "p%ss", "p:ss", "p ss", "p%40ss"]


def registry_of(**urls: str) -> HealthRegistry:
    checks = {name: {"url": url, "timeout_seconds": 10.0} for name, url in urls.items()}
    registry = HealthRegistry(settings=HealthSettings.model_validate({"checks": checks}))
    registry.register_from_settings()
    return registry


# --- databases


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_postgresql_with_one_connection_that_is_used_again(
    own_postgres: OwnPostgres, driver: str
) -> None:
    registry = registry_of(db=own_postgres.url(driver))
    async with registry.running():
        rows = [row_of(await registry.report(), "db") for _ in range(3)]
    pool = {"size": 1, "checked_in": 0, "checked_out": 1, "overflow": 0}
    assert [(row.state, row.details["pool"]) for row in rows] == [("up", pool)] * 3


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_restart_of_the_server_between_two_runs_is_no_failure(
    own_postgres: OwnPostgres, driver: str
) -> None:
    registry = registry_of(db=own_postgres.url(driver))
    async with registry.running():
        assert (await registry.report()).status == "healthy"
        own_postgres.restart()
        assert row_of(await registry.report(), "db").consecutive_failures == 0
        assert (await registry.report()).status == "healthy"


async def test_a_restart_of_redis_between_two_runs_is_no_failure(own_redis: OwnRedis) -> None:
    registry = registry_of(cache=own_redis.url)
    async with registry.running():
        assert (await registry.report()).status == "healthy"
        own_redis.restart()
        report = await registry.report()
        assert report.status == "healthy", report


@pytest.mark.parametrize(
    ("server", "driver"),
    [("postgresql", "asyncpg"), ("mariadb", "aiomysql"), ("mariadb", "pymysql")],
)
async def test_the_databases_that_are_running(server: str, driver: str) -> None:
    for shared in shared_servers(server):
        registry = registry_of(db=shared.url_for(driver))
        async with registry.running():
            report = await registry.report()
            assert report.status == "healthy", report


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
async def test_sqlite_is_down_when_its_file_is_taken_away_and_is_never_made(
    tmp_path: Path, driver: str
) -> None:
    file = tmp_path / "app#1%20.sqlite3"
    # SQLAlchemy 2.1 encodes the path, 2.0 takes it as it is.
    url = URL.create(f"sqlite+{driver}", database=str(file))
    registry = registry_of(db=url.render_as_string())
    assert row_of(await registry.report(), "db").state == "down"
    assert not file.exists()
    sqlite3.connect(file).close()
    file.touch()
    assert row_of(await registry.report(), "db").state == "up"
    file.rename(tmp_path / "elsewhere")
    assert row_of(await registry.report(), "db").state == "down"
    assert not file.exists()
    await registry.aclose()


@pytest.mark.newest  # SQLAlchemy 2.0 decodes no path
async def test_a_path_of_sqlite_is_percent_decoded(tmp_path: Path) -> None:
    file = tmp_path / "app #1%20.sqlite3"
    file.touch()
    registry = registry_of(db=f"sqlite+aiosqlite:///{quote(str(file))}")
    assert row_of(await registry.report(), "db").state == "up"
    await registry.aclose()


@pytest.mark.parametrize("name", ["app@home.sqlite3", "app#1.sqlite3"])
async def test_a_path_of_sqlite_may_have_what_a_userinfo_must_encode(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).touch()
    registry = registry_of(db=f"sqlite+aiosqlite:///{tmp_path / name}")
    assert row_of(await registry.report(), "db").state == "up"
    await registry.aclose()


async def test_a_sqlite_url_may_be_a_file_uri(tmp_path: Path) -> None:
    (tmp_path / "app.sqlite3").touch()
    registry = registry_of(db=f"sqlite+aiosqlite:///file:{tmp_path}/app.sqlite3?mode=ro&uri=true")
    assert row_of(await registry.report(), "db").state == "up"
    await registry.aclose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg:///db", "it names no host"),
        ("postgresql+asyncpg://host:99999/db", "its port must be a number from 1 to 65535"),
        ("postgresql+nothing://host/db", "SQLAlchemy knows no such URL: postgresql"),
        ("sqlite+aiosqlite://", "it names no file"),
        ("sqlite+aiosqlite:///:memory:", "it names no file"),
        ("redis://", "it names no host"),
        ("redis://host:0", "its port must be"),
        ("redis://host?socket_timeout=long", "redis-py cannot use it"),
        ("amqp://", "it names no host"),
        ("redis://host/first", "its path must be the number of a database: redis://HOST/0"),
        ("redis://host?colour=red", "redis-py cannot use it"),
        ("unix://", "it must be unix:///PATH, with three slashes"),
        ("unix://host/path", "it must be unix:///PATH, with three slashes"),
        ("postgresql+asyncpg+x://host/db", "it cannot be used: ValueError"),
        ("amqp+ssl://host", r"there is no check for amqp\+ssl://, only a database has a \+ssl"),
        ("amqp://one,two", "a amqp URL names one host"),
        ("amqp://host?heartbeet=5", "has no such argument, did you mean heartbeat"),
        ("mqtt://one,two", "a mqtt URL names one host"),
        ("mqtt://host?tls=1", "a mqtt URL has no such argument, it has none"),
        ("nats://host/path", "a nats URL has no path"),
        ("kafka://host?security_protocol=SSL", "a kafka URL has no such argument"),
        ("kafka://one:9092,two:0", "its port must be"),
        ("kafka://one:9092,,two", "it names no host"),
    ],
)
def test_a_url_that_does_not_fit_its_scheme(url: str, words: str) -> None:
    with pytest.raises(InvalidOptionError, match=words):
        check_from_url(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+pg8000://host/db", r"postgresql\+pg8000 needs pg8000: pip install pg8000$"),
        ("mysql://host/db", "mysql needs MySQLdb: pip install mysqlclient; or name another"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_its_pip_line(url: str, words: str) -> None:
    with pytest.raises(ImportError, match=words):
        check_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg:///db?host={}",
        "mysql+aiomysql:///db?unix_socket={}/socket",
        "unix://{}/socket?db=1",
        "UNIX://{}/socket",
    ],
)
async def test_a_socket_stands_for_a_host(tmp_path: Path, url: str) -> None:
    registry = registry_of(own=url.format(tmp_path))
    failure = row_of(await registry.report(), "own").failure
    assert failure is not None
    assert failure.kind == "exception"


async def test_redis_answers_at_its_socket(own_redis: OwnRedis) -> None:
    registry = registry_of(own=f"unix://{own_redis.socket}?db=1")
    async with registry.running():
        assert (await registry.report()).status == "healthy"


@pytest.mark.parametrize("scheme", ["postgres+psycopg", "postgres+asyncpg", "POSTGRESQL+asyncpg"])
def test_a_scheme_that_platforms_hand_out(scheme: str) -> None:
    assert isinstance(check_from_url(f"{scheme}://host/db"), ConnectedCheck)


# --- passwords


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "redis", "amqp", "nats", "mqtt", "https"])
def test_a_password_may_be_anything_that_is_percent_encoded(scheme: str, password: str) -> None:
    url = f"{scheme}://user:{quote(password, safe='')}@host:5/"
    check_from_url(url)
    HealthSettings.model_validate({"checks": {"db": {"url": url}}})
    assert safe_text(f"login as user with {password} failed") == "login as user with *** failed"


@pytest.mark.parametrize("password", ["p@ss@", "p#ss", "p/ss", "p%ss", "p?ss"])
@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "redis", "amqp", "nats", "mqtt"])
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(
    scheme: str, password: str
) -> None:
    settings = {"checks": {"db": {"url": f"{scheme}://user:{password}@host:5/db"}}}
    registry = HealthRegistry(settings=HealthSettings.model_validate(settings))
    with pytest.raises(SettingsError, match="CHECKS__DB__URL: percent-encode") as caught:
        registry.register_from_settings()
    assert password not in str(caught.value)


async def test_redis_takes_a_password_with_everything_in_it(own_redis: OwnRedis) -> None:
    password = "".join(PASSWORDS)
    address = f"{LOCALHOST}:{own_redis.port}"
    registry = registry_of(
        right=f"redis://:{quote(password, safe='')}@{address}", wrong=f"redis://:wrong@{address}"
    )
    async with async_redis(own_redis.port) as client, registry.running():
        await tell(client, "CONFIG", "SET", "requirepass", password)
        try:
            report = await registry.report()
        finally:
            await tell(client, "CONFIG", "SET", "requirepass", "")
    assert row_of(report, "right").state == "up"
    assert row_of(report, "wrong").state == "down"


async def test_a_secret_is_in_no_report_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    secret = "tr0ub4dor"
    schemes = ["postgresql+asyncpg", "redis", "amqp", "nats", "mqtt", "kafka", "http"]
    port = free_port()
    urls = {
        scheme.partition("+")[0]: f"{scheme}://user:{secret}@{LOCALHOST}:{port}"
        for scheme in schemes
    }
    with caplog.at_level(logging.DEBUG):
        registry = registry_of(**urls)
        async with registry.running():
            report = await registry.report()
    assert {row.state for row in report.components} == {"down"}
    assert secret not in report.model_dump_json()
    assert secret not in repr(registry.settings)
    ours = [record for record in caplog.records if record.name.startswith("cqrs_ddd_health")]
    assert all(secret not in record.getMessage() for record in ours)


# --- brokers and the rest


def broker_urls(nats: OwnNats) -> dict[str, str]:
    shared = {server.name: server.url for server in shared_servers("rabbitmq", "nats")}
    return {**shared, "own_nats": nats.url}


async def test_brokers_are_asked_and_connected_to_anew_after_a_restart(own_nats: OwnNats) -> None:
    registry = registry_of(**broker_urls(own_nats))
    async with registry.running():
        report = await registry.report()
        assert report.status == "healthy", report
        own_nats.stop()
        assert row_of(await registry.report(), "own_nats").state == "down"
        own_nats.start()
        report = await registry.report()
        assert report.status == "healthy", report


async def test_memory_and_what_listens(own_redis: OwnRedis) -> None:
    registry = registry_of(
        enough="memory://?min_available=1kB",
        little="memory://?min_available=1PB",
        default="memory://",
        listens=f"tcp://{LOCALHOST}:{own_redis.port}",
        silent=f"tcp://{LOCALHOST}:{free_port()}",
    )
    report = await registry.report()
    states = {row.name: row.state for row in report.components}
    assert states == {
        "enough": "up",
        "little": "down",
        "default": "up",
        "listens": "up",
        "silent": "down",
    }


async def test_nothing_is_left_of_what_the_registry_built(own_redis: OwnRedis) -> None:
    registry = registry_of(cache=own_redis.url)
    async with registry.running():
        await registry.report()
    await registry.aclose()
    assert len(asyncio.all_tasks()) == 1
    assert row_of(await registry.report(), "cache").state == "up"  # it connects again
    await registry.aclose()
