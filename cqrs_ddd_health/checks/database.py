"""Is the database there: `SELECT 1` through the application's own sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeAlias, cast

from cqrs_ddd_health.clients.writability import SQL, refusal_of_sql
from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_bool
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.threads import needs_loop, require_owner_loop, run_blocking

from .libraries import comes_from

if TYPE_CHECKING:
    from sqlalchemy import Engine, Result

__all__ = ["DatabaseHealthCheck"]

QUERY = "SELECT 1"
SQLITE_QUERY = "PRAGMA schema_version"
"""SQLite answers `SELECT 1` without a look at its file; this it reads from there."""


SessionFactory: TypeAlias = (
    "Callable[[], AbstractAsyncContextManager[object] | AbstractContextManager[object]]"
)


class DatabaseHealthCheck:
    """Executes `SELECT 1` in a session of `session_factory`.

    `session_factory()` returns an async or a sync context manager of a session with `execute`:
    an `async_sessionmaker`, a `sessionmaker`, an engine's `connect`, or one's own. What is sync is
    called and used on one daemon thread; so is a factory of which that is not known yet, unless it
    asks for a running event loop. A SQLAlchemy session is given `text("SELECT 1")`, any other the
    string. Of SQLite SQLAlchemy also asks `PRAGMA schema_version`: a file that is no database is
    down. One that was taken away is seen only by connections that are opened after, so that the
    engine needs `poolclass=NullPool`, and a URL with `mode=rw`, or they would make a new one.

    With `writable` a database that takes no writes is down as well: a standby or replica, and one
    that was made read-only. It is asked what it is, and nothing is written. That needs a SQLAlchemy
    session on PostgreSQL, MySQL, MariaDB or SQLite.

    `check()` raises what the session raises; calling the check itself gives true or false.

    Raises:
        InvalidOptionError: if `writable` is no bool.
    """

    def __init__(self, session_factory: SessionFactory, *, writable: bool = False) -> None:
        self._session_factory = session_factory
        self._writable = require_bool("writable", writable)
        self._is_async = _gives_async_sqlalchemy(session_factory)

    @property
    def loop_bound(self) -> bool | None:
        """Whether its sessions belong to an event loop; None as long as that is not known."""
        return self._is_async or None

    async def __call__(self) -> bool:
        """Return whether the database answered; whatever it raised is swallowed."""
        try:
            await self.check()
        except Exception:
            return False
        return True

    async def check(self) -> CheckResult:
        """Return what the database tells of itself; raises what the session raises."""
        if self._is_async:
            require_owner_loop()
            return await _check_async(self._session_factory(), self._writable)
        try:
            opened = await run_blocking(lambda: _opened(self._session_factory, self._writable))
        except RuntimeError as error:
            if not needs_loop(error):
                raise
            require_owner_loop()
            opened = self._session_factory()  # it is made for tasks, as a scoped async session is
        if isinstance(opened, CheckResult):
            return opened
        require_owner_loop()
        self._is_async = True
        return await _check_async(opened, self._writable)


def _gives_async_sqlalchemy(factory: SessionFactory) -> bool:
    owner = getattr(factory, "__self__", factory)
    return comes_from(owner, "sqlalchemy.ext.asyncio")


def _opened(
    factory: SessionFactory, writable: bool
) -> AbstractAsyncContextManager[object] | AbstractContextManager[object] | CheckResult:
    """Call the factory, and go on with a sync session on the same thread: it may belong to it."""
    context = factory()
    if isinstance(context, AbstractAsyncContextManager):
        return context
    return _check_sync(context, writable)


async def _check_async(
    context: AbstractAsyncContextManager[object] | AbstractContextManager[object], writable: bool
) -> CheckResult:
    if not isinstance(context, AbstractAsyncContextManager):
        return await run_blocking(lambda: _check_sync(context, writable))
    async with context as session:
        answers: list[object] = []
        for statement in _statements(session, writable):
            answer = _execute(session, statement)
            answers.append(await answer if isawaitable(answer) else answer)
        return _result(session, answers, writable)


def _check_sync(context: AbstractContextManager[object], writable: bool) -> CheckResult:
    with context as session:
        answers = [_execute(session, statement) for statement in _statements(session, writable)]
        return _result(session, answers, writable)


def _execute(session: object, statement: object) -> object:
    execute: Callable[[object], object] = getattr(session, "execute")  # noqa: B009 - duck-typed
    return execute(statement)


def _statements(session: object, writable: bool) -> Sequence[object]:
    engine = _engine(session) if comes_from(session, "sqlalchemy") else None
    database = "" if engine is None else engine.dialect.name
    asked = SQL.get(database, ()) if writable else ()
    if writable and not asked:
        raise InvalidOptionError(
            "writable=True needs a SQLAlchemy session on PostgreSQL, MySQL, MariaDB or SQLite"
        )
    if not comes_from(session, "sqlalchemy"):
        return [QUERY]
    from sqlalchemy import text

    return [text(words) for words in (QUERY, *([SQLITE_QUERY] * (database == "sqlite")), *asked)]


def _result(session: object, answers: Sequence[object], writable: bool) -> CheckResult:
    details = _details(session)
    refusal = _refusal(str(details["dialect"]), answers, session) if writable else None
    if refusal is not None:
        return CheckResult(state="down", message=refusal, details=details)
    return CheckResult(details=details)


def _refusal(database: str, answers: Sequence[object], session: object) -> str | None:
    engine = _engine(session)
    if engine is not None and engine.url.query.get("mode") == "ro":
        return "its file is opened with mode=ro"
    asked = cast("Sequence[Result[tuple[object, ...]]]", answers[-len(SQL[database]) :])
    return refusal_of_sql(database, [answer.all() for answer in asked])


def _details(session: object) -> dict[str, object]:
    engine = _engine(session) if comes_from(session, "sqlalchemy") else None
    if engine is None:
        return {}
    dialect = engine.dialect
    version = getattr(dialect, "server_version_info", None)
    return {
        "dialect": dialect.name,
        "driver": dialect.driver,
        "server_version": ".".join(map(str, version)) if version else None,
        "pool": _pool_numbers(engine.pool),
    }


def _engine(session: object) -> Engine | None:
    bind = getattr(session, "bind", None) or getattr(session, "engine", None)
    engine = getattr(bind, "engine", bind)
    return getattr(engine, "sync_engine", engine)


def _pool_numbers(pool: object) -> dict[str, object]:
    """Only a pool that bounds its connections counts them; the others tell nothing."""
    names = {
        "size": "size",
        "checked_in": "checkedin",
        "checked_out": "checkedout",
        "overflow": "overflow",
    }
    methods = {key: getattr(pool, name, None) for key, name in names.items()}
    return {key: method() for key, method in methods.items() if callable(method)}
