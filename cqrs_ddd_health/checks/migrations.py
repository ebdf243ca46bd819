"""Is the database migrated: at the heads of the Alembic scripts that this process came with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.errors import InvalidCheckError, InvalidOptionError
from cqrs_ddd_health.runtime.threads import run_blocking

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AlembicHealthCheck"]


class AlembicHealthCheck:
    """Is down while the database is not at the heads of the scripts, behind them or beyond.

    `engine` is SQLAlchemy's, sync or async. `script_location` is as in `alembic.ini`: the
    directory that has `versions` in it, or `package:directory`. It is read once, on a daemon
    thread. `version_table` and `version_table_schema` are what `env.py` configures, if it does.

    The database is only read: where there is no version table none is made. Alembic itself logs
    two lines each time, with level INFO.

    Register it with `critical=False` to have it only degrade the report.

    `check()` raises what Alembic and the database raise; calling the check itself gives true or
    false.

    Raises:
        ImportError: if Alembic is not installed.
        InvalidCheckError: if `engine` is none.
        InvalidOptionError: if `script_location` is no path.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        script_location: str | os.PathLike[str],
        *,
        version_table: str = "alembic_version",
        version_table_schema: str | None = None,
    ) -> None:
        _require_alembic()
        self._engine = _require_engine(engine)
        self._location = _require_path(script_location)
        self._options = {
            "version_table": version_table,
            "version_table_schema": version_table_schema,
        }
        self._scripts: _Scripts | None = None

    @property
    def loop_bound(self) -> bool:
        """Whether the engine belongs to an event loop."""
        return hasattr(self._engine, "sync_engine")

    async def __call__(self) -> bool:
        """Return whether the database is migrated; whatever was raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return the heads of the database and of the scripts; raises what reading them raises."""
        if self._scripts is None:
            self._scripts = await run_blocking(lambda: _read(self._location))
        scripts = self._scripts
        current = await self._current()
        details = {"current_heads": sorted(current), "expected_heads": sorted(scripts.heads)}
        if current == scripts.heads:
            return CheckResult(details=details)
        is_known = current <= scripts.known
        message = "is behind the scripts" if is_known else "is at a revision unknown to the scripts"
        return CheckResult(state="down", details=details, message=f"the database {message}")

    async def _current(self) -> frozenset[str]:
        from sqlalchemy import Engine

        engine = self._engine
        if isinstance(engine, Engine):
            return await run_blocking(lambda: self._current_by(engine))
        async with engine.connect() as connection:
            return await connection.run_sync(_heads, self._options)

    def _current_by(self, engine: Engine) -> frozenset[str]:
        with engine.connect() as connection:
            return _heads(connection, self._options)


class _Scripts(NamedTuple):
    """The revisions that the scripts lead to, and all that they know."""

    heads: frozenset[str]
    known: frozenset[str]


def _require_alembic() -> None:
    try:
        import_module("alembic")
    except ImportError as error:
        raise ImportError(
            "AlembicHealthCheck needs Alembic: pip install 'cqrs-ddd-health[alembic]'"
        ) from error


def _require_engine(engine: Engine | AsyncEngine) -> Engine | AsyncEngine:
    from sqlalchemy import Engine

    # An async one is told by the engine within: to import its class takes greenlet.
    if not isinstance(engine, Engine) and not hasattr(engine, "sync_engine"):
        raise InvalidCheckError(
            f"engine must be an Engine or an AsyncEngine, got {type(engine).__name__}"
        )
    return engine


def _require_path(location: str | os.PathLike[str]) -> str:
    try:
        path = os.fspath(location)
    except TypeError:
        path = ""
    if not path:
        raise InvalidOptionError(f"script_location must be a path, got {location!r:.80}")
    return path


def _read(location: str) -> _Scripts:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", location.replace("%", "%%"))
    directory = ScriptDirectory.from_config(config)
    known = frozenset(script.revision for script in directory.walk_revisions())
    return _Scripts(frozenset(directory.get_heads()) - _depended_on(directory), known)


def _depended_on(directory: ScriptDirectory) -> frozenset[str]:
    """Of a revision that another one depends on, the version table keeps the other one only."""
    return frozenset(
        needed.revision
        for script in directory.walk_revisions()
        if script.dependencies
        for needed in directory.get_revisions(script.dependencies)
    )


def _heads(connection: Connection, options: Mapping[str, str | None]) -> frozenset[str]:
    from alembic.runtime.migration import MigrationContext

    return frozenset(MigrationContext.configure(connection, opts=options).get_current_heads())
