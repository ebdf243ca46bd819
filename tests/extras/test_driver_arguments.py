"""What the URL of a database may say for each driver, and what the driver is given for it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import make_url

from cqrs_ddd_health import HealthRegistry, InvalidOptionError, SettingsError
from cqrs_ddd_health.checks.from_url import check_from_url
from cqrs_ddd_health.clients.driver_arguments import driver_arguments
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore
from tests.asking import asked_at
from tests.beats import beat
from tests.servers import OwnPostgres, SharedServer, shared_servers

SECRET = "hunter2"
UNNAMED = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


def anything(**arguments: object) -> None:
    """The connect of a driver that does not say what it takes."""


def store_at(url: str) -> object:
    return store_from_url(url, "default")


MAKERS: tuple[Callable[[str], object], ...] = (check_from_url, store_at)


def given(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stays in the URL, and what the driver is given beside it."""
    left, told = driver_arguments(make_url(url), anything)
    return dict(left.query), {name: value for name, value in told.items() if "func" not in name}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An authority, and a certificate of it with its key."""
    directory = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    files = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key", "wrong")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    files["wrong"].write_text("no PEM")
    return files


# --- PostgreSQL


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", UNNAMED),
        ("statement_cache_size=7", {**UNNAMED, "statement_cache_size": 7}),
        ("prepared_statement_cache_size=7", {**UNNAMED, "prepared_statement_cache_size": 7}),
        ("max_cached_statement_lifetime=0", {**UNNAMED, "max_cached_statement_lifetime": 0}),
        ("connect_timeout=2.5", {**UNNAMED, "timeout": 2.5}),
        ("command_timeout=3", {**UNNAMED, "command_timeout": 3.0}),
        ("ssl=true", {**UNNAMED, "ssl": True}),
        ("ssl=false", {**UNNAMED, "ssl": "disable"}),
        ("ssl=verify-full", {**UNNAMED, "ssl": "verify-full"}),
        ("sslmode=require", {**UNNAMED, "dsn": "postgresql://?sslmode=require"}),
        ("direct_tls=yes", {**UNNAMED, "direct_tls": True}),
        ("target_session_attrs=primary", {**UNNAMED, "target_session_attrs": "primary"}),
        ("application_name=a", {**UNNAMED, "server_settings": {"application_name": "a"}}),
        ("dbname=a&user=b", {**UNNAMED, "database": "a", "user": "b"}),
    ],
)
def test_asyncpg_is_told_in_its_own_words(query: str, told: dict[str, object]) -> None:
    assert given(f"postgresql+asyncpg://host/db?{query}") == ({}, told)


def test_several_settings_of_the_server_are_told_as_one() -> None:
    _, told = given("postgresql+asyncpg://host/db?application_name=a&options=-c%20jit%3Doff")
    assert told["server_settings"] == {"application_name": "a", "options": "-c jit=off"}


@pytest.mark.parametrize(("size", "has_names"), [("0", False), ("5", True)])
def test_without_a_cache_no_statement_has_a_name(size: str, has_names: bool) -> None:
    url = make_url(f"postgresql+asyncpg://host/db?prepared_statement_cache_size={size}")
    _, told = driver_arguments(url, anything)
    name: Any = told.get("prepared_statement_name_func")
    assert (name is None) is has_names
    assert has_names or name() == ""


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", {"prepare_threshold": None}),
        ("prepare_threshold=none", {"prepare_threshold": None}),
        ("prepare_threshold=3", {"prepare_threshold": 3}),
        ("connect_timeout=2.5", {"prepare_threshold": None, "connect_timeout": 3}),
        ("connect_timeout=0", {"prepare_threshold": None, "connect_timeout": 0}),
        ("sslmode=prefer", {"prepare_threshold": None, "sslmode": "prefer"}),
        ("sslrootcert=system", {"prepare_threshold": None, "sslrootcert": "system"}),
        ("channel_binding=require", {"prepare_threshold": None, "channel_binding": "require"}),
    ],
)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_psycopg_is_told_in_its_own_words(driver: str, query: str, told: dict[str, object]) -> None:
    assert given(f"postgresql+{driver}://host/db?{query}") == ({}, told)


def test_hosts_stay_in_the_url() -> None:
    left, _ = given("postgresql+asyncpg:///db?host=one:5432&host=two:5433&ssl=require")
    assert left == {"host": ("one:5432", "two:5433")}


# --- MySQL and MariaDB


@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy", "pymysql"])
@pytest.mark.parametrize(
    ("query", "checks", "name"),
    [
        ("ssl=true", ssl.CERT_NONE, False),
        ("ssl_mode=REQUIRED", ssl.CERT_NONE, False),
        ("ssl-mode=required", ssl.CERT_NONE, False),
        ("sslmode=verify-full", ssl.CERT_REQUIRED, True),
        ("ssl_mode=VERIFY_CA", ssl.CERT_REQUIRED, False),
        ("ssl_ca={ca}", ssl.CERT_REQUIRED, True),
        ("ssl_ca={ca}&ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("ssl_capath=/", ssl.CERT_REQUIRED, True),
        ("ssl_verify_cert=true", ssl.CERT_REQUIRED, False),
        ("ssl_verify_identity=true", ssl.CERT_REQUIRED, True),
        ("ssl_cert={cert}&ssl_key={key}", ssl.CERT_NONE, False),
        ("ssl=true&ssl_cipher=ECDHE%2BAESGCM", ssl.CERT_NONE, False),
    ],
)
def test_tls_is_a_context(
    driver: str, query: str, checks: ssl.VerifyMode, name: bool, pem: dict[str, Path]
) -> None:
    left, told = given(f"mysql+{driver}://host/db?{query.format(**pem)}")
    context = told.pop("ssl")
    assert (left, told) == ({}, {})
    assert (context.verify_mode, context.check_hostname) == (checks, name)


@pytest.mark.parametrize("query", ["ssl=false", "ssl_disabled=true", "ssl_mode=DISABLED"])
def test_no_tls_is_no_context(query: str) -> None:
    assert given(f"mysql+aiomysql://host/db?{query}") == ({}, {})
    assert given(f"mysql+pymysql://host/db?{query}") == ({}, {"ssl_disabled": True})
    assert given(f"mysql+mysqldb://host/db?{query}") == ({}, {"ssl_mode": "DISABLED"})


def test_mysqlclient_is_told_of_files(pem: dict[str, Path]) -> None:
    _, told = given(f"mysql+mysqldb://host/db?ssl_ca={pem['ca']}")
    assert told == {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": str(pem["ca"])}}
    assert given("mysql+mysqldb://host/db?compress=1") == ({}, {"compress": True})


def test_pymysql_is_left_to_its_default() -> None:
    assert given("mysql+pymysql://host/db?read_timeout=2") == ({}, {"read_timeout": 2})


def test_what_sqlalchemy_makes_something_of_stays_in_the_url() -> None:
    left, told = given("mysql+aiomysql://host/db?client_flag=2&charset=utf8mb4&connect_timeout=1.5")
    assert left == {"client_flag": "2"}
    assert told == {"charset": "utf8mb4", "connect_timeout": 2}


# --- SQLite, and drivers that are not known


def test_sqlite_keeps_all_in_the_url() -> None:
    query = {"timeout": "2", "cached_statements": "0"}
    assert given("sqlite+aiosqlite:///file?timeout=2&cached_statements=0") == (query, {})
    left, _ = given("sqlite:///file:file?uri=true&mode=ro")
    assert left == {"uri": "true", "mode": "ro"}


def test_a_driver_that_says_what_it_takes_is_believed() -> None:
    def connect(host: str, timeout: str) -> None: ...

    url = make_url("postgresql+pg8000://host/db?timeout=2")
    assert driver_arguments(url, connect) == (url, {})
    with pytest.raises(InvalidOptionError, match=r"\+pg8000 URL has no such argument, did you"):
        driver_arguments(make_url("postgresql+pg8000://host/db?timeuot=2"), connect)


def test_a_driver_that_says_nothing_is_given_all() -> None:
    url = make_url("postgresql+pg8000://host/db?anything=2")
    assert driver_arguments(url, anything) == (url, {})
    assert driver_arguments(url, type) == (url, {})  # which has no signature


# --- what is refused


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg://host/db?nonsense=1", "a postgresql+asyncpg URL has no such argume"),
        ("postgresql+asyncpg://host/db?sslmod=require", "did you mean sslmode?"),
        ("postgresql+asyncpg://host/db?sslmode=maybe", "sslmode must be one of disable, allow"),
        ("postgresql+asyncpg://host/db?ssl=maybe", "ssl must be one of disable, allow"),
        ("postgresql+asyncpg://host/db?statement_cache_size=-1", "statement_cache_size must be a"),
        ("postgresql+asyncpg://host/db?connect_timeout=soon", "connect_timeout must be a number"),
        ("postgresql+asyncpg://host/db?command_timeout=inf", "command_timeout must be a number"),
        ("postgresql+asyncpg://host/db?connect_timeout=0", "connect_timeout must be a number"),
        ("postgresql+asyncpg://host/db?channel_binding=require", "has no such argument"),
        ("postgresql+asyncpg://host/db?prepare_threshold=0", "has no such argument"),
        ("postgresql+asyncpg://host/db?sslrootcert=/none", "sslrootcert must name a file that is"),
        ("postgresql+asyncpg://host/db?ssl=require&ssl=disable", "it says ssl more than once"),
        ("postgresql+asyncpg://host/db?direct_tls=maybe", "direct_tls must be true or false"),
        ("postgresql+psycopg://host/db?statement_cache_size=0", "has no such argument"),
        ("postgresql+psycopg://host/db?prepare_threshold=few", "prepare_threshold must be a whole"),
        ("postgresql+psycopg://host/db?target_session_attrs=x", "target_session_attrs must be one"),
        ("mysql+aiomysql://host/db?ssl_mode=PREFERRED", "ssl_mode must be one of DISABLED, REQ"),
        ("mysql+aiomysql://host/db?ssl_ca=/none", "ssl_ca must name a file"),
        ("mysql+aiomysql://host/db?ssl_ca={wrong}", "ssl_ca, ssl_cert and ssl_key must name PEM"),
        ("mysql+aiomysql://host/db?ssl_capath=/none", "ssl_capath must name a directory"),
        ("mysql+aiomysql://host/db?ssl_cipher=none", "ssl_cipher must name ciphers"),
        ("mysql+aiomysql://host/db?read_timeout=1", "has no such argument"),
        ("mysql+aiomysql://host/db?client_flag=x", "client_flag must be a whole number"),
        ("sqlite+aiosqlite:///file?nonsense=1", "a sqlite+aiosqlite URL has no such argument"),
        ("sqlite+aiosqlite:///file?timeout=x", "timeout must be a number of seconds"),
        ("sqlite+aiosqlite:///file:file?uri=true&mode=rx", "mode must be one of ro, rw, rwc"),
    ],
)
def test_what_no_driver_could_use_is_refused_at_once(
    url: str, words: str, pem: dict[str, Path]
) -> None:
    url = f"{url.format(**pem)}&password={SECRET}" if "://host" in url else url
    for make in MAKERS:
        with pytest.raises(InvalidOptionError) as caught:
            make(url)
        assert words in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("retry=3", "redis-py cannot use it"),
        ("ssl_min_version=771", "redis-py cannot use it"),
        ("encoding=nonsense", "encoding must be an encoding such as utf-8"),
        ("socket_timeout=0", "socket_timeout must be a number of seconds above 0"),
        ("protocol=7", "redis-py cannot use it"),
        ("decode_responses=maybe", "decode_responses must be true or false"),
    ],
)
def test_what_redis_py_could_not_use_is_refused_at_once(query: str, words: str) -> None:
    for make in MAKERS:
        with pytest.raises(InvalidOptionError, match=words):
            make(f"redis://host?{query}")


def test_a_redis_url_may_say_what_redis_py_takes() -> None:
    check_from_url("redis://host/1?encoding=latin-1&socket_timeout=2&protocol=3&client_name=us")


@pytest.mark.parametrize("said", ["maybe", ""])
@pytest.mark.parametrize("url", ["redis://host", "postgresql+asyncpg://host/db"])
def test_writable_is_yes_or_no(url: str, said: str) -> None:
    with pytest.raises(InvalidOptionError, match="writable must be true or false"):
        check_from_url(f"{url}?writable={said}")


def test_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+asyncpg://host/db?nonsense=1"
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__DATABASE__URL", url)
    with pytest.raises(SettingsError, match="CQRS_HEALTH_CHECKS__DATABASE__URL: a postgresql"):
        HealthRegistry().register_from_settings()
    monkeypatch.setenv("CQRS_HEALTH_HEARTBEAT_STORE_URL", url)
    with pytest.raises(SettingsError, match="CQRS_HEALTH_HEARTBEAT_STORE_URL: a postgresql"):
        HealthRegistry()


# --- what is told works


@pytest.mark.parametrize(
    "query",
    [
        "asyncpg?sslmode=disable&connect_timeout=5&application_name=us&statement_cache_size=0",
        "asyncpg?sslmode=prefer&target_session_attrs=read-write&options=-c%20jit%3Doff",
        "asyncpg?ssl=disable&prepared_statement_cache_size=10&statement_cache_size=10",
        "psycopg?sslmode=prefer&connect_timeout=5&target_session_attrs=primary",
        "psycopg?prepare_threshold=0&options=-c%20jit%3Doff&application_name=us",
    ],
)
async def test_a_postgresql_that_is_asked_so(own_postgres: OwnPostgres, query: str) -> None:
    driver, _, query = query.partition("?")
    url = f"{own_postgres.url(driver)}?{query}"
    assert (await asked_at(f"{url}&writable=1")).state == "up"
    store = SqlHeartbeatStore(url)
    await store.publish([beat()])
    assert len((await store.read()).beats) == 1
    await store.retire("worker", "instance", "token")
    await store.close()


@pytest.mark.parametrize("server", shared_servers("mariadb"), ids=lambda server: server.name)
async def test_a_mariadb_that_is_asked_so(server: SharedServer) -> None:
    query = "charset=utf8mb4&connect_timeout=5&ssl_mode=DISABLED&local_infile=0"
    assert (await asked_at(f"{server.url_for('aiomysql')}?{query}")).state == "up"
