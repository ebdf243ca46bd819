"""The checks of clients, with clients that only look like the real ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from unittest.mock import AsyncMock, MagicMock

import pytest

from cqrs_ddd_health import (
    CheckResult,
    DatabaseHealthCheck,
    HealthRegistry,
    InvalidCheckError,
    MessageBrokerHealthCheck,
    RedisHealthCheck,
)
from tests.core.actors import SHORT, Blocked, eventually, kind_of


class BrokenError(Exception):
    pass


class Session:
    """A duck-typed session; `wait` is what its execute returns."""

    def __init__(self, *, fails: bool = False) -> None:
        self.statements: list[object] = []
        self.threads: list[threading.Thread] = []
        self.closed = False
        self._fails = fails

    def run(self, statement: object) -> None:
        self.statements.append(statement)
        self.threads.append(threading.current_thread())
        if self._fails:
            raise BrokenError


class SyncSession(Session):
    def execute(self, statement: object) -> int:
        self.run(statement)
        return 1

    @contextmanager
    def open(self) -> Generator[SyncSession]:
        try:
            yield self
        finally:
            self.closed = True


class AsyncSession(Session):
    async def execute(self, statement: object) -> int:
        self.run(statement)
        return 1

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncSession]:
        try:
            yield self
        finally:
            self.closed = True


# --- database


async def test_an_async_session_executes_select_1_on_the_loop() -> None:
    session = AsyncSession()
    result = await DatabaseHealthCheck(session.open).check()
    assert (result.state, result.details) == ("up", {})
    assert (session.statements, session.closed) == (["SELECT 1"], True)
    assert session.threads == [threading.current_thread()]


async def test_a_sync_session_executes_select_1_on_a_thread() -> None:
    session = SyncSession()
    assert await DatabaseHealthCheck(session.open)()
    assert (session.statements, session.closed) == (["SELECT 1"], True)
    assert threading.current_thread() not in session.threads


@pytest.mark.parametrize("session", [SyncSession(fails=True), AsyncSession(fails=True)])
async def test_what_a_session_raises_is_raised_by_check_and_false_by_call(
    session: SyncSession | AsyncSession,
) -> None:
    check = DatabaseHealthCheck(session.open)
    with pytest.raises(BrokenError):
        await check.check()
    assert await check() is False
    assert session.closed


async def test_a_factory_that_asks_for_the_running_loop_is_called_on_it() -> None:
    session = AsyncSession()

    def factory() -> AbstractAsyncContextManager[AsyncSession]:
        asyncio.get_running_loop()
        return session.open()

    check = DatabaseHealthCheck(factory)
    assert [await check(), await check()] == [True, True]
    assert session.statements == ["SELECT 1"] * 2


async def test_another_error_of_a_factory_is_raised_as_it_is() -> None:
    def factory() -> AbstractAsyncContextManager[AsyncSession]:
        raise RuntimeError("no such database")

    with pytest.raises(RuntimeError, match="no such database"):
        await DatabaseHealthCheck(factory).check()


async def test_a_sync_session_that_is_opened_on_the_loop_is_used_on_a_thread() -> None:
    session = SyncSession()

    def factory() -> AbstractContextManager[SyncSession]:
        asyncio.get_running_loop()
        return session.open()

    assert await DatabaseHealthCheck(factory)()
    assert threading.current_thread() not in session.threads


async def test_an_async_session_may_have_a_sync_execute() -> None:
    session = SyncSession()

    @asynccontextmanager
    async def factory() -> AsyncGenerator[SyncSession]:
        yield session

    assert await DatabaseHealthCheck(factory)()
    assert session.statements == ["SELECT 1"]


async def test_mocks_stand_for_a_session_factory() -> None:
    assert await DatabaseHealthCheck(MagicMock())()
    factory = MagicMock()
    factory.return_value.__aenter__.return_value.execute = AsyncMock()
    assert await DatabaseHealthCheck(factory)()
    factory.return_value.__aenter__.return_value.execute.assert_awaited_once_with("SELECT 1")
    factory.return_value.__aenter__.side_effect = OSError
    assert not await DatabaseHealthCheck(factory)()


# --- redis


class SyncRedis:
    def __init__(self, answer: object = True) -> None:
        self.answer = answer
        self.threads: list[threading.Thread] = []

    def ping(self) -> object:
        self.threads.append(threading.current_thread())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class AsyncRedis(SyncRedis):
    async def ping(self) -> object:
        return super().ping()


class Pool:
    max_connections = 10
    _in_use_connections = frozenset((1,))
    _available_connections = (2, 3)


class LaterRedis(SyncRedis):
    connection_pool = Pool()

    async def _answer(self) -> object:
        return self.answer

    def ping(self) -> object:
        return self._answer()


async def test_an_async_ping_is_awaited_on_the_loop_and_a_sync_one_runs_on_a_thread() -> None:
    on_loop, on_thread = AsyncRedis(), SyncRedis()
    assert await RedisHealthCheck(on_loop)()
    assert await RedisHealthCheck(on_thread)()
    assert on_loop.threads == [threading.current_thread()]
    assert threading.current_thread() not in on_thread.threads


async def test_the_pool_of_a_client_is_counted_where_it_tells() -> None:
    result = await RedisHealthCheck(LaterRedis()).check()
    assert result.details["pool"] == {"max_connections": 10, "in_use": 1, "idle": 2}
    assert (await RedisHealthCheck(SyncRedis()).check()).details == {}


@pytest.mark.parametrize("client", [SyncRedis(b""), AsyncRedis(None), LaterRedis(False)])
async def test_a_false_answer_to_ping_is_down(client: SyncRedis) -> None:
    check = RedisHealthCheck(client)
    assert ((await check.check()).state, await check()) == ("down", False)


@pytest.mark.parametrize("client", [SyncRedis(BrokenError()), AsyncRedis(BrokenError())])
async def test_what_ping_raises_is_raised_by_check_and_false_by_call(client: SyncRedis) -> None:
    check = RedisHealthCheck(client)
    with pytest.raises(BrokenError):
        await check.check()
    assert await check() is False


async def test_mocks_stand_for_a_redis_client() -> None:
    assert await RedisHealthCheck(MagicMock())()
    assert await RedisHealthCheck(AsyncMock())()
    assert not await RedisHealthCheck(AsyncMock(ping=AsyncMock(side_effect=OSError)))()
    assert not await RedisHealthCheck(MagicMock(ping=MagicMock(return_value=False)))()


# --- broker


class SyncBroker:
    def __init__(self, answer: object = True) -> None:
        self.answer = answer

    def health_check(self) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def is_connected(self) -> bool:
        raise AssertionError("health_check() is preferred")


class AsyncBroker(SyncBroker):
    async def health_check(self) -> object:
        return super().health_check()


class LaterBroker(SyncBroker):
    async def _answer(self) -> object:
        return self.answer

    def health_check(self) -> object:
        return self._answer()


class ConnectedByMethod:
    def is_connected(self) -> bool:
        return True


class ConnectedByCoroutine:
    async def is_connected(self) -> bool:
        return True


class ConnectedByAttribute:
    def __init__(self, answer: object = True) -> None:
        self.is_connected = answer


class ConnectedByProperty:
    def __init__(self, answer: object = True) -> None:
        self.answer = answer
        self.threads: list[threading.Thread] = []

    @property
    def is_connected(self) -> object:
        self.threads.append(threading.current_thread())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("client", "asked"),
    [
        (SyncBroker(), "health_check"),
        (AsyncBroker(), "health_check"),
        (LaterBroker(), "health_check"),
        (ConnectedByMethod(), "is_connected"),
        (ConnectedByCoroutine(), "is_connected"),
        (ConnectedByAttribute(), "is_connected"),
        (ConnectedByProperty(), "is_connected"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_broker_is_asked_in_its_own_way(client: object, asked: str) -> None:
    check = MessageBrokerHealthCheck(client)
    result = await check.check()
    assert (result.state, result.details) == (
        "up",
        {"client": type(client).__name__, "asked": asked},
    )
    assert await check()


@pytest.mark.parametrize(
    "client",
    [
        SyncBroker(False),
        AsyncBroker(None),
        LaterBroker(0),
        ConnectedByAttribute(False),
        ConnectedByProperty(False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_broker_that_says_no_is_down(client: object) -> None:
    check = MessageBrokerHealthCheck(client)
    result = await check.check()
    assert result.state == "down"
    assert "says no" in (result.message or "")
    assert not await check()


@pytest.mark.parametrize("broken", [SyncBroker, AsyncBroker, ConnectedByProperty])
async def test_what_a_broker_raises_is_raised_by_check_and_false_by_call(
    broken: type[SyncBroker | ConnectedByProperty],
) -> None:
    check = MessageBrokerHealthCheck(broken(BrokenError()))
    with pytest.raises(BrokenError):
        await check.check()
    assert await check() is False


@pytest.mark.parametrize(("state", "expected"), [("up", True), ("down", False)])
async def test_a_broker_may_answer_with_a_result(state: str, expected: bool) -> None:
    said = CheckResult.model_validate({"state": state, "details": {"lag": 1}})
    check = MessageBrokerHealthCheck(AsyncBroker(said))
    assert await check.check() == said
    assert await check() is expected


async def test_a_property_is_read_on_a_thread() -> None:
    client = ConnectedByProperty()
    await MessageBrokerHealthCheck(client).check()
    client.threads.pop(0)
    assert threading.current_thread() not in client.threads


async def test_mocks_stand_for_a_broker_client() -> None:
    assert await MessageBrokerHealthCheck(MagicMock())()
    assert await MessageBrokerHealthCheck(AsyncMock())()
    assert await MessageBrokerHealthCheck(MagicMock(spec=["is_connected"], is_connected=True))()
    refuses = AsyncMock(health_check=AsyncMock(return_value=False))
    assert not await MessageBrokerHealthCheck(refuses)()


def test_a_client_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(InvalidCheckError, match="object has neither"):
        MessageBrokerHealthCheck(object())


async def test_a_hung_client_of_a_check_is_not_asked_twice() -> None:
    client, blocked = MagicMock(spec=["is_connected"]), Blocked()
    client.is_connected = blocked
    registry = HealthRegistry()
    registry.register("check", MessageBrokerHealthCheck(client), timeout_seconds=SHORT)
    assert [kind_of(await registry.report()) for _ in range(3)] == ["timeout", "hung", "hung"]
    assert blocked.calls == 1
    blocked.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_a_sync_session_factory_that_connects_does_not_block_the_loop() -> None:
    threads: list[threading.Thread] = []

    class Connection:
        def execute(self, statement: object) -> None:
            threads.append(threading.current_thread())

    @contextmanager
    def session() -> Generator[object]:
        yield Connection()

    class Engine:
        def connect(self) -> object:
            threads.append(threading.current_thread())  # a sync engine connects right here
            return session()

    await DatabaseHealthCheck(Engine().connect).check()  # type: ignore[arg-type]
    assert threading.current_thread() not in threads
