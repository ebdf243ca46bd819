"""Heartbeat stores from URLs, where the libraries of their servers are there."""

from __future__ import annotations

import sys

import pytest

from cqrs_ddd_health import InvalidOptionError
from cqrs_ddd_health.domain.redaction import safe_text
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url
from cqrs_ddd_health.heartbeats.stores.redis import RedisHeartbeatStore
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore, ddl

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite:///beats",
        "SQLite+aiosqlite:////var/lib/app/beats",
        f"postgresql+asyncpg://user:{SECRET}@host:5432/db",
        "postgres+asyncpg://host/db",
        "postgresql+psycopg://host/db",
        "postgresql+psycopg:///db?host=/run/postgresql",
        "mysql+aiomysql://host/db",
        "mysql+aiomysql:///db?unix_socket=/run/mysql",
        "mariadb+aiomysql://host/db",
    ],
)
def test_a_sql_store(url: str) -> None:
    assert isinstance(store_from_url(url, "default"), SqlHeartbeatStore)


@pytest.mark.parametrize(
    "url", ["redis://host", f"rediss://:{SECRET}@host:6380/3", "unix:///run/redis.sock?db=1"]
)
def test_a_redis_store(url: str) -> None:
    assert isinstance(store_from_url(url, "default"), RedisHeartbeatStore)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            f"postgresql+psycopg2://user:{SECRET}@host/db",
            "the driver of postgresql+psycopg2:// is not async: postgresql+asyncpg:// is",
        ),
        ("mysql+pymysql://host/db", "mysql+aiomysql:// is"),
        ("mariadb+pymysql://host/db", "mariadb+aiomysql:// is"),
        ("sqlite:///file", "sqlite+aiosqlite:/// is"),
        ("sqlite+aiosqlite://", "it names no file: sqlite+aiosqlite:///relative or ////absolute"),
        ("sqlite+aiosqlite:///:memory:", "it names no file"),
        ("sqlite+aiosqlite:///file::memory:?uri=true", "it names no file"),
        ("sqlite+aiosqlite:///file:beats?mode=memory&uri=true", "it names no file"),
        (f"postgresql+asyncpg:///{SECRET}", "it names no host"),
        (f"postgresql+asyncpg://host:{SECRET}/db", "its port must be a number"),
        (f"postgresql+asyncpg://user:{SECRET}#@host/db", "percent-encode"),
        (f"postgresql+nothing://user:{SECRET}@host/db", "no such driver: postgresql+nothing"),
        ("redis://", "it names no host"),
        (f"redis://host/{SECRET}", "its path must be the number of a database"),
        (f"redis://host?db={SECRET}", "redis-py cannot use it"),
    ],
)
def test_what_is_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        store_from_url(url, "default")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ImportError, match=r"postgresql\+asyncpg needs asyncpg: pip install"):
        store_from_url(f"postgresql+asyncpg://user:{SECRET}@host/db", "default")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oracle", "it may be of postgresql, mysql, mariadb, sqlite"),
        ("", "SQLAlchemy cannot read it"),
        (f"postgresql://user:{SECRET}@host:port", "SQLAlchemy cannot read it"),
        (f"postgresql+nothing://{SECRET}", "no such driver: postgresql+nothing"),
    ],
)
def test_a_table_for_a_database_that_there_is_none_of(name: str, words: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ddl(name)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "postgresql+asyncpg"])
def test_a_password_is_cut_out_of_every_text_from_then_on(scheme: str) -> None:
    store_from_url(f"{scheme}://user:s3cr3t-of-{scheme}@host", "default")
    assert "s3cr3t" not in safe_text(f"cannot log in with s3cr3t-of-{scheme}")
