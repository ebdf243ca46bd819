"""The check of migrations: real Alembic scripts against real databases."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cqrs_ddd_health import AlembicHealthCheck, InvalidCheckError, InvalidOptionError
from tests.asking import asked, failure_of, registry_of, row_of
from tests.processes import free_port
from tests.servers import OwnPostgres

SCRIPT = """
revision = {revision!r}
down_revision = {down!r}
branch_labels = None
depends_on = {depends_on!r}

def upgrade(): pass
def downgrade(): pass
"""


class Scripts:
    """A directory of migrations that is written as the test goes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "versions").mkdir(parents=True)

    def write(self, revision: str, down: str | None = None, depends_on: str | None = None) -> None:
        script = SCRIPT.format(revision=revision, down=down, depends_on=depends_on)
        (self.directory / "versions" / f"{revision}.py").write_text(script)

    def upgrade(
        self,
        connection: Connection,
        to: str = "heads",
        *,
        table: str = "alembic_version",
        schema: str | None = None,
    ) -> None:
        """Migrate as `alembic upgrade` does."""
        config = Config()
        config.set_main_option("script_location", str(self.directory).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)

        def steps(current: str, _context: object) -> list[RevisionStep]:
            return list(scripts._upgrade_revs(to, current))

        environment = EnvironmentContext(config, scripts, fn=steps)
        with environment:
            environment.configure(connection, version_table=table, version_table_schema=schema)
            with environment.begin_transaction():
                environment.run_migrations()
        connection.commit()


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """Two revisions, in a directory whose name is awkward for ini files."""
    scripts = Scripts(tmp_path / "100% migrations")
    scripts.write("first")
    scripts.write("second", "first")
    return scripts


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'app.sqlite3'}")
    yield engine
    engine.dispose()


@pytest.fixture
async def postgres(own_postgres: OwnPostgres) -> AsyncIterator[AsyncEngine]:
    """An engine on a database of the test's own."""
    name = f"migrated_{free_port()}"
    server = create_async_engine(own_postgres.url("asyncpg"), isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_async_engine(server.url.set(database=name))
    yield engine
    await engine.dispose()
    async with server.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} (FORCE)"))
    await server.dispose()


def heads(current: list[str], expected: list[str]) -> dict[str, object]:
    return {"current_heads": tuple(current), "expected_heads": tuple(expected)}


async def test_a_database_is_down_until_it_is_migrated(sqlite: Engine, scripts: Scripts) -> None:
    check = AlembicHealthCheck(sqlite, scripts.directory)
    registry = registry_of(check)
    assert (await row_of(registry)).details == heads([], ["second"])
    with sqlite.connect() as connection:
        scripts.upgrade(connection, "first")
        row = await row_of(registry)
        assert (row.details, failure_of(row)) == (heads(["first"], ["second"]), ("reported", None))
        assert (await check.check()).message == "the database is behind the scripts"
        assert await check() is False
        scripts.upgrade(connection)
    row = await row_of(registry)
    assert (row.state, row.details) == ("up", heads(["second"], ["second"]))
    assert await check()


async def test_a_database_that_is_beyond_the_scripts_is_down(
    sqlite: Engine, scripts: Scripts
) -> None:
    old = AlembicHealthCheck(sqlite, scripts.directory)
    await old.check()
    scripts.write("third", "second")
    with sqlite.connect() as connection:
        scripts.upgrade(connection)
    result = await old.check()
    assert (result.state, result.message) == (
        "down",
        "the database is at a revision unknown to the scripts",
    )
    assert (await asked(AlembicHealthCheck(sqlite, scripts.directory))).state == "up"


async def test_an_async_engine_on_postgresql(postgres: AsyncEngine, scripts: Scripts) -> None:
    registry = registry_of(AlembicHealthCheck(postgres, str(scripts.directory)))
    assert (await row_of(registry)).details == heads([], ["second"])
    async with postgres.connect() as connection:
        await connection.run_sync(partial(scripts.upgrade))
    row = await row_of(registry)
    assert (row.state, row.details) == ("up", heads(["second"], ["second"]))


async def test_a_version_table_of_ones_own(postgres: AsyncEngine, scripts: Scripts) -> None:
    async with postgres.connect() as connection:
        await connection.execute(text("CREATE SCHEMA orders"))
        await connection.run_sync(partial(scripts.upgrade, table="revisions", schema="orders"))
    assert (await asked(AlembicHealthCheck(postgres, scripts.directory))).state == "down"
    own = AlembicHealthCheck(
        postgres,
        scripts.directory,
        version_table="revisions",
        version_table_schema="orders",
    )
    assert (await asked(own)).state == "up"


async def test_branches_are_migrated_when_all_of_them_are(sqlite: Engine, scripts: Scripts) -> None:
    scripts.write("other")
    with sqlite.connect() as connection:
        scripts.upgrade(connection, "other")
        row = await asked(AlembicHealthCheck(sqlite, scripts.directory))
        assert (row.state, row.details) == ("down", heads(["other"], ["other", "second"]))
        scripts.upgrade(connection)
    assert (await asked(AlembicHealthCheck(sqlite, scripts.directory))).state == "up"


async def test_a_head_that_another_one_depends_on_is_not_expected(
    sqlite: Engine, scripts: Scripts
) -> None:
    scripts.write("other", depends_on="second")
    with sqlite.connect() as connection:
        scripts.upgrade(connection)
    row = await asked(AlembicHealthCheck(sqlite, scripts.directory))
    assert (row.state, row.details) == ("up", heads(["other"], ["other"]))


async def test_nothing_is_written_and_no_version_table_is_made(
    sqlite: Engine, scripts: Scripts
) -> None:
    statements: list[str] = []
    event.listen(sqlite, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert (await asked(AlembicHealthCheck(sqlite, scripts.directory))).state == "down"
    assert inspect(sqlite).get_table_names() == []
    assert all(statement.startswith(("PRAGMA", "SELECT")) for statement in statements)


async def test_the_scripts_are_read_once_and_on_a_thread(
    sqlite: Engine, scripts: Scripts, tmp_path: Path
) -> None:
    readers: list[object] = []
    scripts.write("third", "second")
    script = scripts.directory / "versions" / "third.py"
    note = "import threading, builtins\nbuiltins.alembic_readers.append(threading.current_thread())"
    script.write_text(f"{note}\n{script.read_text()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.alembic_readers", readers, raising=False)
        registry = registry_of(AlembicHealthCheck(sqlite, scripts.directory))
        await row_of(registry)
        await row_of(registry)
    assert len(readers) == 1
    assert readers[0] is not threading.current_thread()


async def test_scripts_that_cannot_be_read_raise_and_are_read_again(
    sqlite: Engine, tmp_path: Path
) -> None:
    check = AlembicHealthCheck(sqlite, tmp_path / "later")
    with pytest.raises(CommandError):
        await check.check()
    assert await check() is False
    Scripts(tmp_path / "later")
    assert (await check.check()).details == {"current_heads": [], "expected_heads": []}


async def test_a_database_that_is_away_is_down(own_postgres: OwnPostgres, scripts: Scripts) -> None:
    own_postgres.stop()
    engine = create_engine(own_postgres.url("psycopg"))
    row = await asked(AlembicHealthCheck(engine, scripts.directory))
    assert failure_of(row) == ("exception", "OperationalError")


@pytest.mark.parametrize("stranger", [None, "sqlite://", object()])
def test_what_is_no_engine_is_refused(stranger: object) -> None:
    with pytest.raises(InvalidCheckError, match="engine must be an Engine or an AsyncEngine"):
        AlembicHealthCheck(cast("Engine", stranger), "migrations")


@pytest.mark.parametrize("location", ["", None, 7])
def test_a_location_that_is_none_is_refused(sqlite: Engine, location: str) -> None:
    with pytest.raises(InvalidOptionError, match="script_location must be a path"):
        AlembicHealthCheck(sqlite, location)


def test_without_alembic_it_says_what_to_install(
    sqlite: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "alembic", None)
    with pytest.raises(ImportError, match=r"pip install 'cqrs-ddd-health\[alembic\]'"):
        AlembicHealthCheck(sqlite, "migrations")
