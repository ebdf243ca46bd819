"""What servers say of themselves, and whether they take writes by that."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqrs_ddd_health.clients.writability import refusal_of_redis, refusal_of_sql

PRIMARY = {
    "role": "master",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 5,
    "aof_enabled": 0,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


@pytest.mark.parametrize(
    ("said", "settings", "words"),
    [
        ({}, {}, None),
        ({"role": "slave"}, {}, "it is a replica, which takes no writes"),
        ({"maxmemory": 6}, {}, None),
        ({"maxmemory": 5, "maxmemory_policy": "allkeys-lru"}, {}, None),
        ({"maxmemory": 5}, {}, "its memory is full, and maxmemory-policy is noeviction"),
        ({"aof_last_write_status": "err"}, {}, None),
        (
            {"aof_enabled": 1, "aof_last_write_status": "err"},
            {},
            "it cannot write its append-only file",
        ),
        (
            {"rdb_last_bgsave_status": "err"},
            {},
            "its last snapshot failed, and stop-writes-on-bgsave-error is on",
        ),
        ({"rdb_last_bgsave_status": "err"}, {"stop-writes-on-bgsave-error": "no"}, None),
        ({"rdb_last_bgsave_status": "err"}, {"save": ""}, None),
        ({"min_slaves_good_slaves": 2}, {"min-replicas-to-write": "2"}, None),
        ({"min_slaves_good_slaves": 1}, {}, None),
        (
            {"min_slaves_good_slaves": 1},
            {"min-replicas-to-write": "2"},
            "fewer replicas are connected than min-replicas-to-write asks for",
        ),
        (
            {"min_slaves_good_slaves": 0},
            {},
            "fewer replicas are connected than min-replicas-to-write asks for",
        ),
    ],
)
def test_a_redis(said: dict[str, object], settings: dict[str, str], words: str | None) -> None:
    assert refusal_of_redis({**PRIMARY, **said}, settings) == words


def test_what_a_redis_does_not_say_is_no_refusal() -> None:
    assert refusal_of_redis({}, {}) is None


@pytest.mark.parametrize(
    ("is_standby", "read_only", "words"),
    [
        (False, "off", None),
        (True, "on", "it is a standby, which takes no writes"),
        (False, "on", "its transactions are read-only"),
    ],
)
def test_a_postgresql(is_standby: bool, read_only: str, words: str | None) -> None:
    assert refusal_of_sql("postgresql", [[(is_standby, read_only)]]) == words


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], None),
        ([("read_only", "OFF"), ("innodb_read_only", "0"), ("tx_read_only", "off")], None),
        ([("read_only", "ON"), ("tx_read_only", "OFF")], "it takes no writes: read_only is on"),
        (
            [("super_read_only", "1"), ("read_only", "NO_LOCK")],
            "it takes no writes: read_only, super_read_only is on",
        ),
    ],
)
def test_a_mysql(kind: str, said: list[tuple[str, str]], words: str | None) -> None:
    assert refusal_of_sql(kind, [said]) == words


def test_a_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    databases = [(0, "main", str(file)), (2, "other", "/nowhere")]
    file.touch()
    assert refusal_of_sql("sqlite", [[(0,)], databases]) is None
    assert refusal_of_sql("sqlite", [[(0,)], [(0, "main", "")]]) is None
    assert refusal_of_sql("sqlite", [[(1,)], databases]) == "query_only is on"
    refused = {file, tmp_path}

    def access(path: Path, _: int) -> bool:
        return path not in refused

    monkeypatch.setattr("os.access", access)  # root may always
    assert refusal_of_sql("sqlite", [[(0,)], databases]) == "its file is read-only"
    refused.remove(file)
    assert refusal_of_sql("sqlite", [[(0,)], databases]) == "its file is read-only"
