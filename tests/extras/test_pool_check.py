"""The check of a pool: how much of it is in use, of engines as applications have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast
from unittest.mock import MagicMock

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool, SingletonThreadPool, StaticPool

from cqrs_ddd_health import InvalidCheckError, InvalidOptionError, PoolSaturationHealthCheck
from tests.asking import asked, failure_of, registry_of, row_of
from tests.servers import OwnPostgres


def engine_of(file: Path, **options: object) -> Engine:
    return create_engine(f"sqlite:///{file}", **options)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = engine_of(tmp_path / "a.sqlite3", poolclass=QueuePool, pool_size=2, max_overflow=2)
    yield engine
    engine.dispose()


@pytest.fixture
async def postgres(own_postgres: OwnPostgres) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(own_postgres.url("asyncpg"), pool_size=1, max_overflow=1)
    yield engine
    await engine.dispose()


def numbers(checked_out: int, capacity: int) -> dict[str, object]:
    used = checked_out / capacity
    return {"checked_out": checked_out, "capacity": capacity, "used": used}


async def test_a_pool_is_down_when_as_much_as_allowed_is_in_use(engine: Engine) -> None:
    check = PoolSaturationHealthCheck(engine, max_used=0.75)
    held = [engine.connect() for _ in range(2)]
    row = await asked(check)
    assert (row.state, row.details, await check()) == ("up", numbers(2, 4), True)
    held.append(engine.connect())
    row = await asked(check)
    assert (row.state, row.details, await check()) == ("down", numbers(3, 4), False)
    assert (await check.check()).message == "75% of the pool's connections or more are in use"
    for connection in held:
        connection.close()
    assert (await asked(check)).details == numbers(0, 4)


async def test_an_exhausted_async_pool_is_down_and_up_when_it_is_given_back(
    postgres: AsyncEngine,
) -> None:
    registry = registry_of(PoolSaturationHealthCheck(postgres))
    assert (await row_of(registry)).details == numbers(0, 2)
    async with postgres.connect(), postgres.connect():
        row = await row_of(registry)
        assert (row.details, failure_of(row)) == (numbers(2, 2), ("reported", None))
    assert (await row_of(registry)).state == "up"


async def test_a_pool_that_was_disposed_of_is_counted_anew(engine: Engine) -> None:
    check = PoolSaturationHealthCheck(engine)
    with engine.connect():
        assert (await asked(check)).details == numbers(1, 4)
    engine.dispose()
    with engine.connect(), engine.connect():
        assert (await asked(check)).details == numbers(2, 4)


async def test_it_never_connects(engine: Engine) -> None:
    connects: list[object] = []
    event.listen(engine, "connect", lambda *_: connects.append(None))
    assert (await asked(PoolSaturationHealthCheck(engine))).state == "up"
    assert connects == []


async def test_what_the_pool_raises_is_raised_by_check_and_false_by_call() -> None:
    broken = MagicMock(pool=MagicMock(_max_overflow=1))
    broken.pool.size.return_value = 1
    broken.pool.checkedout.side_effect = BrokenPipeError
    check = PoolSaturationHealthCheck(broken)
    with pytest.raises(BrokenPipeError):
        await check.check()
    assert await check() is False


@pytest.mark.parametrize(
    "options",
    [
        {"poolclass": NullPool},
        {"poolclass": StaticPool},
        {"poolclass": SingletonThreadPool},
        {"poolclass": QueuePool, "max_overflow": -1},
        {"poolclass": QueuePool, "pool_size": 0},
    ],
)
def test_a_pool_without_a_bound_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    engine = engine_of(tmp_path / "a.sqlite3", **options)
    with pytest.raises(InvalidCheckError, match=f"{type(engine.pool).__name__} of the Engine has"):
        PoolSaturationHealthCheck(engine)


@pytest.mark.parametrize("stranger", [None, "postgresql://", MagicMock()])
def test_what_is_no_engine_is_refused(stranger: object) -> None:
    with pytest.raises(InvalidCheckError, match="give an engine with a QueuePool"):
        PoolSaturationHealthCheck(cast("Engine", stranger))


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), True, "1", None])
def test_a_share_that_is_none_is_refused(engine: Engine, share: float) -> None:
    with pytest.raises(InvalidOptionError, match="max_used must be"):
        PoolSaturationHealthCheck(engine, max_used=share)


def test_all_of_a_pool_may_be_allowed(engine: Engine) -> None:
    PoolSaturationHealthCheck(engine, max_used=1)
