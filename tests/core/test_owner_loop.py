"""Whose loop async checks run on: the application's, and while none is known, nobody's."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Self, cast

import pytest

from cqrs_ddd_health import (
    CheckResult,
    ComponentStatus,
    DatabaseHealthCheck,
    HealthRegistry,
    HealthServer,
    HealthSettings,
    InvalidOptionError,
    MemoryHeartbeatStore,
    MessageBrokerHealthCheck,
    RedisHealthCheck,
)
from cqrs_ddd_health.checks import Check
from cqrs_ddd_health.runtime.threads import LoopThread, is_own_loop
from cqrs_ddd_health.testing import FakeCheck, FakeClock, clean_registry

from .actors import Blocked, Gated, Stubborn, ThreadedLoop, eventually_sync, kind_of, row_of
from .test_health_server import LoopSpy, code_of

QUICK = HealthSettings(http_max_age_seconds=0)


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry(settings=QUICK)


class Client:
    """An async client of the application, that knows on which loops it was used."""

    def __init__(self) -> None:
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def ping(self) -> bool:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return True

    async def check(self) -> CheckResult:
        await self.ping()
        return CheckResult()

    def plain_ping(self) -> Awaitable[bool]:
        return self.ping()

    def task(self) -> Awaitable[bool]:
        return asyncio.get_running_loop().create_task(self.ping())

    async def __aenter__(self) -> Self:
        await self.ping()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ping()

    def execute(self, _: object) -> Awaitable[bool]:
        return self.ping()

    def session(self) -> Self:
        return self

    def session_on_the_loop(self) -> Self:
        asyncio.get_running_loop()
        return self


class Pinged:
    """A Redis client that is pinged in that way."""

    def __init__(self, ping: Callable[[], object]) -> None:
        self.ping = ping


class Ready:
    """Something to be awaited that is no coroutine."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __await__(self) -> Generator[object, None, bool]:
        return self._client.ping().__await__()


class Broker:
    """A broker client whose answer is a property, and is to be awaited."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def is_connected(self) -> Ready:
        return Ready(self._client)


BOUND: Mapping[str, Callable[[Client], Check]] = {
    "coroutine function": lambda client: client.ping,
    "partial of one": lambda client: partial(client.ping),
    "function of a coroutine": lambda client: client.plain_ping,
    "function of an awaitable": lambda client: lambda: Ready(client),
    "function of a task": lambda client: client.task,
    "object with check": lambda client: client,
    "sessions": lambda client: DatabaseHealthCheck(client.session),
    "the method of a check": lambda client: DatabaseHealthCheck(client.session).check,
    "sessions of a loop": lambda client: DatabaseHealthCheck(client.session_on_the_loop),
    "async ping": RedisHealthCheck,
    "ping of a coroutine": lambda client: RedisHealthCheck(Pinged(client.plain_ping)),
    "async health_check": lambda client: MessageBrokerHealthCheck(
        SimpleNamespace(health_check=client.ping)
    ),
    "health_check of a coroutine": lambda client: MessageBrokerHealthCheck(
        SimpleNamespace(health_check=client.plain_ping)
    ),
    "property to be awaited": lambda client: MessageBrokerHealthCheck(Broker(client)),
}


@pytest.mark.parametrize("kind", BOUND)
def test_a_client_of_the_application_is_used_on_its_loop_and_on_no_other(
    registry: HealthRegistry, kind: str
) -> None:
    client = Client()
    registry.register("check", BOUND[kind](client))
    for _ in range(2):
        failure = row_of(registry.report_sync()).failure
        assert failure is not None
        assert failure.kind == "pending"
        assert "await registry.report()" in (failure.message or "").lower()
        assert "own_loop=True" in (failure.message or "")
    assert not client.loops

    async def application() -> None:
        assert row_of(await registry.report()).state == "up"
        assert row_of(await asyncio.to_thread(registry.report_sync)).state == "up"
        with HealthServer(registry, port=0) as server:
            assert await asyncio.to_thread(code_of, server, "/health/ready") == 200
        assert client.loops == {asyncio.get_running_loop()}

    asyncio.run(application())
    assert kind_of(registry.report_sync()) == "pending"
    assert len(client.loops) == 1


UNBOUND: Mapping[str, Check] = {
    "function": lambda: True,
    "a check that says so": FakeCheck(),
    "its method": FakeCheck().check,
    "sync ping": RedisHealthCheck(Pinged(lambda: True)),
    "sync health_check": MessageBrokerHealthCheck(SimpleNamespace(health_check=lambda: True)),
    "attribute": MessageBrokerHealthCheck(SimpleNamespace(is_connected=True)),
}


@pytest.mark.parametrize("kind", UNBOUND)
def test_what_belongs_to_no_loop_is_asked_from_anywhere(
    registry: HealthRegistry, kind: str
) -> None:
    registry.register("check", UNBOUND[kind])
    assert row_of(registry.report_sync()).state == "up"
    with HealthServer(registry, port=0) as server:
        assert code_of(server, "/health/ready") == 200


def test_a_check_that_is_called_outside_of_a_registry_runs_where_it_is_awaited() -> None:
    client = Client()
    assert asyncio.run(DatabaseHealthCheck(client.session)()) is True
    assert asyncio.run(RedisHealthCheck(client)()) is True
    assert len(client.loops) == 2


# --- who owns them


def test_a_check_pends_since_it_was_first_not_asked() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)
    registry.register("check", Client().ping)
    rows: list[ComponentStatus] = []
    for _ in range(2):
        rows.append(row_of(registry.report_sync()))
        clock.advance(60)
    assert rows[0] == rows[1]


def test_the_log_says_once_what_to_do_about_a_check_that_is_not_asked(
    registry: HealthRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        registry.register(name, Client().ping)
    for _ in range(2):
        registry.report_sync()
    eventually_sync(lambda: caplog.messages != [])
    assert len(caplog.messages) == 1
    assert "check 'first' is pending" in caplog.messages[0]
    assert "async with HealthServer(registry)" in caplog.messages[0]


def test_a_server_around_the_application_waits_until_that_awaits_a_report(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())

    async def application() -> None:
        assert await asyncio.to_thread(code_of, server, "/health/ready") == 503
        assert not spy.loops
        await registry.report()
        assert await asyncio.to_thread(code_of, server, "/health/ready") == 200
        assert set(spy.loops) == {asyncio.get_running_loop()}

    with HealthServer(registry, port=0) as server:
        asyncio.run(application())


def test_the_loop_that_ran_when_a_check_was_registered_owns_it(registry: HealthRegistry) -> None:
    spy = LoopSpy()

    async def application() -> None:
        registry.register("check", spy)
        assert row_of(await asyncio.to_thread(registry.report_sync)).state == "up"
        assert set(spy.loops) == {asyncio.get_running_loop()}

    asyncio.run(application())


def test_who_awaited_goes_before_where_it_was_registered(registry: HealthRegistry) -> None:
    spy = LoopSpy()

    async def register() -> None:
        registry.register("check", spy)

    with ThreadedLoop() as first, ThreadedLoop() as second, ThreadedLoop() as third:
        asyncio.run_coroutine_threadsafe(register(), first.loop).result(10)
        second.report(registry)
        third.report(registry)
        registry.report_sync()
        assert spy.loops == [second.loop] * 3


async def test_where_a_block_was_entered_goes_before_who_awaited(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())
    with ThreadedLoop() as other:
        other.report(registry)
        async with registry.running():
            before = len(spy.loops)
            await asyncio.to_thread(other.report, registry)
            await asyncio.to_thread(registry.report_sync)
            assert set(spy.loops[before:]) == {asyncio.get_running_loop()}


async def test_the_owner_that_was_named_goes_before_all(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    with ThreadedLoop() as other:
        async with registry.running(), registry.running(owner=other.loop):
            await asyncio.to_thread(registry.report_sync)
            assert set(spy.loops) == {other.loop}
        await registry.report()  # that loop is still known, and runs
        assert set(spy.loops) == {other.loop}
    before = len(spy.loops)
    await registry.report()
    assert spy.loops[before:] == [asyncio.get_running_loop()]


async def test_of_blocks_one_within_the_other_each_is_left_on_its_own(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())
    with ThreadedLoop() as other:
        other.report(registry)
        async with registry.running():
            async with registry.running():
                pass
            await asyncio.to_thread(other.report, registry)
            assert spy.loops[1:] == [asyncio.get_running_loop()]


def test_a_loop_that_stands_still_is_not_replaced_while_it_is_entered(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())
    paused = asyncio.new_event_loop()
    block = registry.running()
    paused.run_until_complete(block.__aenter__())
    with ThreadedLoop() as other:
        assert kind_of(other.report(registry)) == "pending"
    paused.run_until_complete(block.__aexit__(None, None, None))
    paused.close()
    assert not spy.loops
    assert row_of(asyncio.run(registry.report())).state == "up"


def test_of_two_loops_that_were_entered_the_one_that_runs_is_asked(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())
    paused = asyncio.new_event_loop()
    block = registry.running()
    paused.run_until_complete(block.__aenter__())

    async def application() -> None:
        async with registry.running():
            await asyncio.to_thread(registry.report_sync)
            assert spy.loops == [asyncio.get_running_loop()]

    asyncio.run(application())
    paused.run_until_complete(block.__aexit__(None, None, None))
    paused.close()


class WorkerThread(threading.Thread):
    """A thread that works for a loop and says for which, as AnyIO's do."""

    def __init__(self, loop: object, work: Callable[[], object]) -> None:
        super().__init__(target=work, daemon=True)
        self.loop = loop

    def done(self) -> None:
        self.start()
        self.join(20)


def test_a_thread_that_works_for_a_loop_brings_it(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    WorkerThread("no loop", registry.report_sync).done()
    assert not spy.loops
    with ThreadedLoop() as application:
        WorkerThread(application.loop, registry.report_sync).done()
        registry.report_sync()
        assert spy.loops == [application.loop] * 2
    WorkerThread(application.loop, registry.report_sync).done()  # it is closed by now
    assert kind_of(registry.report_sync()) == "pending"


# --- a loop of the registry's own


def test_a_registry_that_shares_its_clients_with_no_loop_asks_on_one_of_its_own() -> None:
    registry = HealthRegistry(settings=QUICK, own_loop=True)
    spy = registry.register("check", LoopSpy())
    assert row_of(registry.report_sync()).state == "up"
    with HealthServer(registry, port=0) as server:
        assert code_of(server, "/health/ready") == 200
        assert row_of(asyncio.run(registry.report())).state == "up"
        assert len(set(spy.loops)) == 1
        assert is_own_loop(spy.loops[0])
    assert spy.loops[0].is_closed()
    assert row_of(registry.report_sync()).state == "up"
    registry.close()
    assert {loop.is_closed() for loop in spy.loops} == {True}


@pytest.mark.parametrize("own_loop", [None, 1, "yes"])
def test_whether_it_has_one_is_yes_or_no(own_loop: object) -> None:
    with pytest.raises(InvalidOptionError, match="own_loop must be True or False"):
        HealthRegistry(own_loop=cast("bool", own_loop))


def own_threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name == "cqrs-health-loop"}


def test_what_a_registry_was_asked_on_ends_with_it() -> None:
    before = own_threads()
    registry = HealthRegistry()
    registry.register("check", lambda: True)
    registry.report_sync()
    assert len(own_threads() - before) == 1
    asyncio.run(registry.aclose())
    assert own_threads() <= before
    with clean_registry() as clean:
        clean.register("check", lambda: True)
        clean.report_sync()
    assert own_threads() <= before
    registry.report_sync()
    registry.close()
    registry.close()
    assert own_threads() <= before


def test_a_registry_that_shares_beats_ends_that_thread_too() -> None:
    before = set(threading.enumerate())
    store = MemoryHeartbeatStore()
    registry = HealthRegistry(heartbeat_store=store)
    registry.heartbeat("worker")
    eventually_sync(lambda: len(asyncio.run(store.read()).beats) == 1)
    registry.close()
    assert set(threading.enumerate()) <= before
    assert asyncio.run(store.read()).beats == []  # it said goodbye


async def test_a_clean_registry_is_closed_inside_a_loop_too() -> None:
    before = own_threads()
    with clean_registry() as clean:
        clean.heartbeat("worker")
        await asyncio.to_thread(clean.report_sync)
    assert own_threads() <= before


def test_a_registry_that_nobody_has_any_more_keeps_no_thread() -> None:
    before = own_threads()
    registry = HealthRegistry()
    registry.report_sync()
    del registry
    gc.collect()
    eventually_sync(lambda: own_threads() <= before)


def test_an_answer_that_is_waited_for_comes_although_the_registry_is_closed() -> None:
    before = own_threads()
    registry = HealthRegistry()
    blocked = registry.register("check", Blocked())
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(registry.report_sync().status))
    asking.start()
    eventually_sync(lambda: blocked.calls == 1)
    registry.close()
    blocked.released.set()
    asking.join(20)
    assert answers == ["healthy"]
    eventually_sync(lambda: own_threads() <= before)


def test_what_still_runs_on_a_loop_of_its_own_is_left_behind() -> None:
    registry = HealthRegistry(own_loop=True)
    stubborn = registry.register("check", Stubborn(), timeout_seconds=0.02)
    assert kind_of(registry.report_sync()) == "timeout"
    registry.close()
    assert stubborn.calls == 1
    registry.register("check", Gated(), timeout_seconds=0.02)
    assert kind_of(registry.report_sync()) == "timeout"
    registry.close()


def test_where_no_thread_is_to_be_had_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    thread = LoopThread()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        thread.started()
    monkeypatch.undo()
    loop = thread.started()
    assert thread.started() is loop
    thread.close()
    assert loop.is_closed()
