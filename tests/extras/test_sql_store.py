"""The SQL heartbeat store on real databases."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cqrs_ddd_health import HeartbeatStore, InvalidNameError, InvalidOptionError
from cqrs_ddd_health.heartbeats.stores.sql import connection as sql_connections
from cqrs_ddd_health.heartbeats.stores.sql import statements as sql_statements
from cqrs_ddd_health.heartbeats.stores.sql.reads import MAX_LENGTH
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore, ddl
from cqrs_ddd_health.testing import HeartbeatStoreConformance
from tests.beats import GARBAGE_NAMES, age, beat, numbers
from tests.servers import OwnPostgres, shared_servers
from tests.store_cases import SharedStoreCases

DRIVERS = {"postgresql": ("asyncpg", "psycopg"), "mariadb": ("aiomysql",)}
SQLITE = "sqlite"
PLACES = [
    pytest.param(SQLITE, id=SQLITE),
    *(
        pytest.param(server.url_for(driver), id=f"{server.name}-{driver}")
        for server in shared_servers("postgresql", "mariadb")
        for driver in DRIVERS[server.name]
    ),
]
HOUR = 3_600.0


class Place:
    """A database, a namespace of its own in it, and what the tests do there behind our back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backend = make_url(url).get_backend_name()
        self.namespace = f"test-{uuid4()}"
        self._stores: list[SqlHeartbeatStore] = []

    def store(self, namespace: str = "", **options: Any) -> SqlHeartbeatStore:
        store = SqlHeartbeatStore(self.url, namespace=self.namespace + namespace, **options)
        self._stores.append(store)
        return store

    async def tell(self, sql: str, **values: object) -> list[Any]:
        engine = create_async_engine(self.url, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(sql), values)
                return list(result) if result.returns_rows else []
        finally:
            await engine.dispose()

    async def put(self, **literals: str) -> None:
        """Write a row whose values are SQL."""
        row = {
            "namespace": f"'{self.namespace}'",
            "worker": "'worker'",
            "instance": "'instance'",
            "token": f"'{uuid4()}'",
            "publish_number": "1",
            "age_seconds": "1.5",
            "timeout_seconds": "60",
            "publish_interval_seconds": "5",
            "phase": "NULL",
            "progress": "NULL",
            "stamp": "1",
            **literals,
        }
        columns, values = ", ".join(row), ", ".join(row.values())
        await self.tell(f"INSERT INTO cqrs_health_heartbeats ({columns}) VALUES ({values})")

    async def set(self, assignments: str, where: str = "1 = 1") -> None:
        await self.tell(
            f"UPDATE cqrs_health_heartbeats SET {assignments} WHERE namespace = :namespace "
            f"AND {where}",
            namespace=self.namespace,
        )

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        if self.backend != SQLITE:
            await self.tell(
                "DELETE FROM cqrs_health_heartbeats WHERE namespace LIKE :ours",
                ours=f"{self.namespace}%",
            )


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    url: str = request.param
    place = Place(f"sqlite+aiosqlite:///{tmp_path}/beats" if url == SQLITE else url)
    yield place
    await place.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncGenerator[Place]:
    place = Place(f"sqlite+aiosqlite:///{tmp_path}/beats")
    yield place
    await place.close()


@pytest.fixture(params=["asyncpg", "psycopg"])
async def postgres(
    request: pytest.FixtureRequest, own_postgres: OwnPostgres
) -> AsyncGenerator[Place]:
    """A server of our own, without the table."""
    place = Place(own_postgres.url(request.param))
    await place.tell("DROP TABLE IF EXISTS cqrs_health_heartbeats")
    yield place
    own_postgres.recover()
    await place.tell(ddl(place.url))
    await place.close()


class TestConformance(HeartbeatStoreConformance):
    @pytest.fixture(autouse=True)
    def use(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.ahead_seconds = 0.0
        clock = time.clock_gettime

        def ahead(which: int) -> float:
            return clock(which) + self.ahead_seconds

        monkeypatch.setattr("time.clock_gettime", ahead)

    async def make_store(self) -> HeartbeatStore:
        return self.place.store(str(uuid4())[:8])

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        if self.place.backend == SQLITE:  # whose clock begins with the machine
            self.ahead_seconds += seconds
            return
        await self.place.tell(
            "UPDATE cqrs_health_heartbeats SET stamp = stamp - :seconds WHERE namespace LIKE :ours",
            seconds=seconds,
            ours=f"{self.place.namespace}%",
        )


class TestShared(SharedStoreCases):
    pass


# --- what is published


WRITER = """
import asyncio, sys
from cqrs_ddd_health import StoredBeat
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore

async def main(url, namespace, token):
    store = SqlHeartbeatStore(url, namespace=namespace)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(50):
        await store.publish(
            [StoredBeat("worker", str(row), token, number, 0.0, 60.0, 5.0) for row in range(20)]
        )
        await store.read()
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_may_begin_at_once_where_there_is_no_file_yet(sqlite: Place) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, sqlite.url, sqlite.namespace, token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for token in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    read = await sqlite.store().read()
    assert (len(read.beats), set(numbers(read).values())) == (40, {49})
    assert (await sqlite.tell("PRAGMA journal_mode"))[0][0] == "wal"


# --- what is read


OF_ANY = [
    {"age_seconds": "-1"},
    {"age_seconds": "1e300"},
    {"timeout_seconds": "-0.5"},
    {"publish_interval_seconds": "1e11"},
    {"publish_number": "-1"},
    {"progress": "-1"},
    {"progress": "9223372036854775807"},
    {"stamp": "-1e300"},
    {"stamp": "1e300"},
]
GARBAGE = {
    "sqlite": [
        {"worker": "x'ff'"},
        {"worker": "CAST(x'ff' AS TEXT)"},
        {"worker": "CAST('a' AS BLOB)"},
        {"phase": "CAST(x'61ff' AS TEXT)"},
        {"phase": "x'61'"},
        {"age_seconds": "9e999"},
        {"age_seconds": "'young'"},
        {"timeout_seconds": "x'00'"},
        {"timeout_seconds": "9e999"},
        {"publish_number": "1.5"},
        {"progress": "'far'"},
        {"token": f"'{'x' * 129}'"},
    ],
    "postgresql": [
        {"age_seconds": "'NaN'"},
        {"timeout_seconds": "'NaN'"},
        {"timeout_seconds": "'Infinity'"},
        {"stamp": "'-Infinity'"},
        {"stamp": "'NaN'"},
    ],
    "mysql": [{"worker": "x'ff'"}, {"phase": "x'00'"}, {"token": f"'{'x' * 129}'"}],
}


async def test_rows_that_nobody_published_are_counted_and_spoil_no_other(place: Place) -> None:
    store = place.store()
    await store.publish([beat(phase) for phase in ("a", "b")])
    garbage = [*OF_ANY, *GARBAGE[place.backend]]
    for row in garbage:
        await place.put(**{"stamp": "1", **boot_of(place), **row})
    for name in GARBAGE_NAMES[:-1]:
        await place.tell(
            "INSERT INTO cqrs_health_heartbeats SELECT namespace, :name, instance, token, 1, 1, 1, "
            "1, NULL, NULL, 1, boot FROM cqrs_health_heartbeats WHERE namespace = :ours "
            "AND worker = 'a'",
            name=name,
            ours=place.namespace,
        )
    read = await store.read()
    assert {held.worker for held in read.beats} == {"a", "b"}
    assert read.dropped == len(garbage) + len(GARBAGE_NAMES) - 1
    await place.store().publish([beat("c")])  # which looks for what may be removed
    assert {held.worker for held in (await store.read()).beats} == {"a", "b", "c"}


async def test_a_timeout_beyond_all_bounds_is_as_good_as_one_of_three_hundred_years(
    place: Place,
) -> None:
    store = place.store()
    await store.publish([beat(timeout_seconds=1e300)])
    assert [held.timeout_seconds for held in (await store.read()).beats] == [1e10]
    await place.store().publish([beat("other")])


async def test_of_too_many_rows_those_published_last_are_read_and_the_rest_is_counted(
    place: Place,
) -> None:
    store = place.store(max_rows=3)
    await store.publish([beat(instance=f"{number}") for number in range(5)])
    await place.set("stamp = stamp - 10", "instance in ('1', '3')")
    read = await store.read()
    assert {held.instance for held in read.beats} == {"0", "2", "4"}
    assert read.dropped == 2


NO_BEATS = {
    "sqlite": [
        *({"worker": "CAST('a' AS BLOB)"}, {"phase": "x'61'"}, {"timeout_seconds": "x'00'"}),
        *({"publish_number": "1.5"}, {"progress": "'far'"}, {"age_seconds": "'young'"}),
        *({"token": f"'{'x' * 600}'"}, {"timeout_seconds": "9e999"}, {"stamp": "9e999"}),
    ],
    "postgresql": GARBAGE["postgresql"],
    "mysql": [],
}
"""What is told by its type, its length and its numbers."""


async def test_rows_that_nobody_published_take_nobodys_place(place: Place) -> None:
    store = place.store(max_rows=2)
    await store.publish([beat("lives"), beat("dead")])
    await place.set("stamp = stamp - 100", "worker = 'dead'")
    now = (await store.read()).server_now
    garbage = [*OF_ANY, *NO_BEATS[place.backend]]
    for row in garbage:
        await place.put(**{"stamp": f"{now}", **boot_of(place), **row})
    read = await store.read()
    assert {held.worker for held in read.beats} == {"lives", "dead"}
    assert (read.dropped, read.unread) == (len(garbage), 0)


def boot_of(place: Place) -> dict[str, str]:
    return {"boot": f"'{sql_statements.this_boot()}'"} if place.backend == SQLITE else {}


@pytest.mark.parametrize("seconds", [-20, 3_600, 1e9])
async def test_of_too_many_those_of_the_last_seconds_come_first(
    place: Place, seconds: float
) -> None:
    """Killed jobs with long timeouts; and what is stamped with a time that has not come."""
    store = place.store(max_rows=3)
    jobs = [beat("job", f"{number}", timeout_seconds=3_600.0) for number in range(5)]
    await store.publish([beat("lives"), *jobs])
    await place.set(f"stamp = stamp + {seconds}", "worker = 'job'")
    await place.set("stamp = stamp - 10", "worker = 'lives'")
    read = await store.read()
    assert "lives" in {held.worker for held in read.beats}
    assert (len(read.beats), read.dropped, read.unread) == (3, 3, 3)


# --- SQLite, where one value may be larger than all memory

TEXTS = ("worker", "token", "phase", "boot", "age_seconds", "progress", "stamp")


async def put_long(sqlite: Place, column: str, length: int = MAX_LENGTH) -> None:
    value = f"replace(hex(zeroblob({length})), '00', 'x')"
    await sqlite.put(**{**boot_of(sqlite), "instance": f"'{uuid4()}'", column: value})


@pytest.mark.parametrize("few_bytes", [2**20, 2**30])
@pytest.mark.parametrize("column", TEXTS)
async def test_a_value_that_is_too_long_spoils_no_other(
    sqlite: Place, column: str, few_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_connections, "MAX_BYTES", few_bytes)
    store = sqlite.store()
    await store.publish([beat("a"), beat("z"), *(beat("m", f"{n}") for n in range(20))])
    for _ in range(2):
        await put_long(sqlite, column, MAX_LENGTH + 1)
    read = await store.read()
    assert (len(read.beats), read.dropped, read.unread) == (22, 2, 0)
    writer = sqlite.store()
    await writer.publish([beat("after")])  # which looks for what may be removed
    assert len((await writer.read()).beats) == 23


@pytest.mark.parametrize("value", ["zeroblob({})", "replace(hex(zeroblob({})), '00', 'x')"])
async def test_while_a_value_is_too_long_nothing_is_removed(sqlite: Place, value: str) -> None:
    store = sqlite.store()
    await store.publish([beat("w", "1"), beat("w", "2")])
    await sqlite.set(f"stamp = stamp - {2 * HOUR}", "instance = '1'")
    await sqlite.put(phase=value.format(MAX_LENGTH + 1))
    await sqlite.store().publish([beat("other")])
    assert (await held_by_worker(sqlite))["w"] == 2
    await sqlite.tell("DELETE FROM cqrs_health_heartbeats WHERE phase IS NOT NULL")
    await sqlite.store().publish([beat("other")])
    assert (await held_by_worker(sqlite))["w"] == 1


async def test_a_row_of_medium_length_does_not_leave_the_database(
    sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_connections, "MAX_BYTES", 50_000)
    store = sqlite.store()
    await store.publish([beat()])
    for column in ("worker", "instance", "token", "phase", "progress", "age_seconds"):
        await put_long(sqlite, column, 10_000)
    reads = store._statements.reads
    async with store._transaction() as connection:
        found = await connection.run_sync(sql_connections.fetched, reads, 10)
    assert (len(found.rows), found.left_out, found.unread) == (1, 6, 0)


async def test_a_database_that_holds_too_much_that_is_too_long_cannot_be_read(
    sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite.store().publish([beat(f"{number}") for number in range(5)])
    await put_long(sqlite, "worker", MAX_LENGTH + 1)
    with pytest.raises(DataError, match="too big"):  # where there are too many rows besides
        await sqlite.store(max_rows=3).read()
    monkeypatch.setattr(sql_connections, "_MAX_FAILED", 1)
    with pytest.raises(DataError, match="too big"):
        await sqlite.store().read()


# --- what is removed


async def test_a_row_that_nobody_published_is_no_other_of_its_worker(place: Place) -> None:
    store = place.store()
    await store.publish([beat("w", timeout_seconds=1.0)])
    await place.set(f"stamp = stamp - {2 * HOUR}")
    now = (await store.read()).server_now
    for row in ({"stamp": f"{now + 100}"}, {"stamp": f"{now}", "age_seconds": "-1"}):
        await place.put(worker="'w'", instance="'z'", **boot_of(place), **row)
    await place.store().publish([beat("other")])
    assert ("w", "instance", "token") in numbers(await store.read())


async def held_by_worker(place: Place) -> dict[str, int]:
    rows = await place.tell(
        "SELECT worker, count(*) FROM cqrs_health_heartbeats WHERE namespace = :ours "
        "GROUP BY worker",
        ours=place.namespace,
    )
    return {name.decode() if isinstance(name, bytes) else name: count for name, count in rows}


async def test_rows_of_the_long_gone_are_removed_so_many_at_once(place: Place) -> None:
    store = place.store()
    await store.publish([beat("w", f"{number:04}") for number in range(701)])
    await place.set(f"stamp = stamp - {HOUR + 601}", "instance <> '0000'")
    writer = place.store()
    for left in (201, 1, 1):
        await writer.publish([beat("other")])
        assert (await held_by_worker(place))["w"] == left


async def test_no_row_is_removed_before_ten_timeouts_and_an_hour(place: Place) -> None:
    store = place.store()
    await store.publish([beat("w", name) for name in ("lives", "silent", "gone")])
    await place.set(f"stamp = stamp - {HOUR + 500}", "instance = 'silent'")
    await place.set(f"stamp = stamp - {HOUR + 700}", "instance = 'gone'")
    await place.store("elsewhere").publish([beat()])
    assert (await held_by_worker(place))["w"] == 3
    await place.store().publish([beat("other")])
    assert {held.instance for held in (await store.read()).beats if held.worker == "w"} == {
        "lives",
        "silent",
    }


async def test_the_row_of_a_worker_that_was_published_last_is_never_removed(place: Place) -> None:
    store = place.store()
    await store.publish([beat(name, at) for name in ("w", "alone") for at in ("1", "2", "3")])
    await place.set(f"stamp = 1000000 - {10 * HOUR}")
    await place.set("stamp = stamp + 1", "worker = 'w' AND instance = '2'")
    if place.backend == SQLITE:
        await place.set("boot = 'another'")
    await place.store().publish([beat("other")])
    left = {held[:2] for held in (await store.read()).beats}
    assert left == {("w", "2"), ("alone", "3"), ("other", "instance")}


async def test_only_one_publish_in_so_many_looks_for_them(place: Place) -> None:
    store = place.store()
    await store.publish([beat(), beat(token="gone")])
    await place.set(f"stamp = stamp - {2 * HOUR}", "token = 'gone'")
    for _ in range(49):
        await store.publish([beat()])
    assert (await held_by_worker(place))["worker"] == 2
    await store.publish([beat()])
    assert (await held_by_worker(place))["worker"] == 1


# --- SQLite, whose clock is the host's


async def test_a_row_of_an_earlier_start_of_the_machine_is_stale(sqlite: Place) -> None:
    store = sqlite.store(max_rows=2)
    await store.publish([beat("before", timeout_seconds=1e9), beat("now")])
    await sqlite.set("boot = 'another', stamp = stamp + 1000000", "worker = 'before'")
    read = await store.read()
    held = {found.worker: found for found in read.beats}
    assert age(read, held["before"]) > 1e9 + 5
    assert age(read, held["now"]) < 60
    await store.publish([beat("now", token="second")])
    assert {found.worker for found in (await store.read()).beats} == {"now"}


@pytest.mark.parametrize("ahead", [0, 1e9, 9e9])
async def test_rows_of_an_earlier_start_take_nobodys_place(sqlite: Place, ahead: float) -> None:
    store = sqlite.store(max_rows=2)
    await store.publish([beat("lives"), *(beat("before", f"{n}") for n in range(5))])
    await sqlite.set(f"boot = 'another', stamp = stamp + {ahead}", "worker = 'before'")
    await sqlite.set("stamp = stamp - 10", "worker = 'lives'")
    read = await store.read()
    assert "lives" in {held.worker for held in read.beats}
    assert (len(read.beats), read.unread) == (2, 4)


async def test_what_began_before_the_machine_did_is_older_than_anything_since(
    sqlite: Place,
) -> None:
    await sqlite.store().publish([beat(token="before"), beat(token="now")])
    await sqlite.set("boot = 'another', stamp = stamp + 1000000", "token = 'before'")
    store = sqlite.store()
    await store.publish([beat("other")])
    assert {held.token for held in (await store.read()).beats} == {"now", "token"}


async def test_where_a_start_has_no_name_and_sleep_is_not_counted(
    sqlite: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_statements, "_BOOT_ID", tmp_path / "none")
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    store = sqlite.store()
    began = time.monotonic()
    await store.publish([beat()])
    (held,) = (await store.read()).beats
    assert began <= held.stamp <= time.monotonic()


# --- the table


async def test_without_the_table_and_leave_to_make_it_there_is_the_databases_error(
    sqlite: Place, postgres: Place
) -> None:
    for place in (sqlite, postgres):
        await assert_wants_the_table(place)


async def assert_wants_the_table(place: Place) -> None:
    store = place.store(create=False)
    for call in (store.publish([beat()]), store.read(), store.retire("a", "b", "c")):
        with pytest.raises(DBAPIError):
            await call
    await place.tell(ddl(place.url))
    await store.publish([beat()])
    assert len((await store.read()).beats) == 1


async def test_who_is_refused_because_another_made_the_table_uses_that_one(
    sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite.store()
    await store.publish([beat()])
    database = await store._databases.get()
    database.has_table = False
    looks: list[bool] = []

    async def sees_it_late() -> bool:
        looks.append(True)
        return len(looks) > 1

    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("CREATE TABLE", {}, Exception("it is there"))

    monkeypatch.setattr(database, "_finds_table", sees_it_late)
    monkeypatch.setattr("sqlalchemy.schema.CreateTable", refuse)
    assert len((await store.read()).beats) == 1
    assert len(looks) == 2


async def test_the_table_is_made_by_many_at_once(postgres: Place) -> None:
    for _ in range(3):
        await postgres.tell("DROP TABLE IF EXISTS cqrs_health_heartbeats")
        stores = [postgres.store() for _ in range(8)]
        await asyncio.gather(*(store.publish([beat()]) for store in stores))
        for store in stores:
            await store.close()


async def test_a_table_that_went_is_made_again(postgres: Place) -> None:
    store = postgres.store()
    await store.publish([beat()])
    await postgres.tell("DROP TABLE cqrs_health_heartbeats")
    with pytest.raises(ProgrammingError):
        await store.publish([beat()])
    await store.publish([beat()])
    assert len((await store.read()).beats) == 1


async def test_an_account_that_may_not_make_tables_uses_one_that_is_there(
    postgres: Place,
) -> None:
    await postgres.tell("DROP ROLE IF EXISTS plain")
    await postgres.tell("CREATE ROLE plain LOGIN")
    plain = Place(postgres.url.replace("postgres@", "plain@"))
    store = plain.store()
    with pytest.raises(ProgrammingError, match="permission denied"):
        await store.read()
    await postgres.tell(ddl("postgresql"))
    await postgres.tell("GRANT SELECT, INSERT, UPDATE, DELETE ON cqrs_health_heartbeats TO plain")
    await store.publish([beat()])
    assert len((await store.read()).beats) == 1
    await store.close()
    await postgres.tell("DROP OWNED BY plain")
    await postgres.tell("DROP ROLE plain")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("postgresql", "stamp DOUBLE PRECISION NOT NULL"),
        ("postgresql+asyncpg://user:hunter2@host/db", "worker VARCHAR(128) NOT NULL"),
        ("mysql", "worker VARBINARY(512) NOT NULL"),
        ("mariadb+aiomysql://host/db", ")ENGINE=InnoDB"),
        ("sqlite", "PRIMARY KEY (namespace, worker, instance, token)"),
    ],
)
def test_the_statement_that_makes_the_table(name: str, words: str) -> None:
    statement = ddl(name)
    assert statement.startswith("CREATE TABLE IF NOT EXISTS cqrs_health_heartbeats (")
    assert words in statement


# --- connections


async def test_many_calls_at_once_take_turns_on_one_connection(place: Place) -> None:
    store = place.store()
    calls = (store.publish([beat(f"{number}")]) for number in range(10))
    await asyncio.gather(*calls, store.read())
    assert len((await store.read()).beats) == 10


FORK = """
import asyncio, os, sys
from cqrs_ddd_health import StoredBeat
from cqrs_ddd_health.heartbeats.stores.sql.store import SqlHeartbeatStore

store = SqlHeartbeatStore(sys.argv[1], namespace=sys.argv[2])

def beat(worker):
    return StoredBeat(worker, "instance", "token", 1, 0.0, 60.0, 5.0)

with asyncio.Runner() as runner:
    runner.run(store.publish([beat("parent")]))
    child = os.fork()
    if child == 0:
        async def publish():
            await store.publish([beat("child")])
            await store.close()
        store.begin_process()
        with asyncio.Runner() as other:
            other.run(publish())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    read = runner.run(store.read())
    runner.run(store.close())
assert sorted(held.worker for held in read.beats) == ["child", "parent"], read
"""


async def test_a_forked_child_begins_anew_and_leaves_the_parents_connection(place: Place) -> None:
    code = [sys.executable, "-c", FORK, place.url, place.namespace]
    assert subprocess.run(code, timeout=60, check=False).returncode == 0


async def test_a_process_that_begins_leaves_the_parents_connection(place: Place) -> None:
    store = place.store()
    await store.publish([beat()])
    (parents,) = store._databases._clients.values()
    store.begin_process()
    await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {2}
    async with parents.engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await parents.close()


async def test_a_restart_of_the_server_between_two_publishes_is_no_failure(
    postgres: Place, own_postgres: OwnPostgres
) -> None:
    store = postgres.store()
    await store.publish([beat()])
    own_postgres.stop()
    with pytest.raises((OSError, DBAPIError)):
        await store.publish([beat(publish_number=2)])
    own_postgres.start()
    await store.publish([beat(publish_number=3)])
    own_postgres.stop()
    own_postgres.start()
    await store.publish([beat(publish_number=4)])
    assert set(numbers(await store.read()).values()) == {4}


async def test_cut_off_while_the_server_is_frozen_the_next_answer_is_the_right_one(
    postgres: Place, own_postgres: OwnPostgres
) -> None:
    store = postgres.store()
    await store.publish([beat()])
    own_postgres.freeze()
    cut_off = asyncio.create_task(store.read())
    await asyncio.sleep(0.1)
    cut_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut_off
    own_postgres.thaw()
    await store.publish([beat(publish_number=2)])
    assert set(numbers(await store.read()).values()) == {2}


async def test_cut_off_while_it_waits_for_a_lock_the_next_publish_goes_through(
    place: Place,
) -> None:
    store = place.store()
    await store.publish([beat()])
    engine = create_async_engine(place.url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE cqrs_health_heartbeats SET progress = 5 WHERE namespace = :ours"),
            {"ours": place.namespace},
        )
        cut_off = asyncio.create_task(store.publish([beat(publish_number=2)]))
        await asyncio.sleep(0.2)
        assert not cut_off.done()
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
    await engine.dispose()
    for number in (3, 4):
        await store.publish([beat(publish_number=number)])
        assert set(numbers(await store.read()).values()) == {number}


async def test_a_file_that_is_locked_too_long_is_the_databases_error(
    sqlite: Place, tmp_path: Path
) -> None:
    await sqlite.store().publish([beat()])
    impatient = Place(f"{sqlite.url}?timeout=0.01")
    store = impatient.store()
    other = sqlite3.connect(tmp_path / "beats", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        await store.publish([beat()])
    other.execute("ROLLBACK")
    other.close()
    await store.publish([beat()])
    await store.close()


# --- what is refused


def test_options_that_cannot_be() -> None:
    url = "sqlite+aiosqlite:///beats"
    with pytest.raises(InvalidNameError):
        SqlHeartbeatStore(url, namespace="")
    with pytest.raises(InvalidOptionError, match="max_rows"):
        SqlHeartbeatStore(url, max_rows=0)
    with pytest.raises(InvalidOptionError, match="create"):
        Place(url).store(create=1)
