"""Checks with a client of their own: made when asked, once a loop, and closed by their owner."""

from __future__ import annotations

import asyncio

import pytest

from cqrs_ddd_health import CheckResult
from cqrs_ddd_health.checks.connected import ConnectedCheck, ConnectedClient
from cqrs_ddd_health.runtime import cancellation as endings
from cqrs_ddd_health.runtime.loop_local import PerLoop
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import PATIENCE_SECONDS, ThreadedLoop, eventually


class Server:
    """Counts its clients; what they answer, and how they close, may be set."""

    def __init__(self, *, reconnects: bool = True) -> None:
        self.check = FakeCheck()
        self.reconnects = reconnects
        self.opened = 0
        self.closed: list[asyncio.AbstractEventLoop] = []
        self.refuses = False
        self.closing_raises = False
        self.closing_hangs = False

    async def connect(self) -> ConnectedClient:
        if self.refuses:
            raise ConnectionRefusedError
        self.opened += 1
        return ConnectedClient(self.check, self.close, self.reconnects)

    async def close(self) -> None:
        self.closed.append(asyncio.get_running_loop())
        if self.closing_hangs:
            await asyncio.Event().wait()
        if self.closing_raises:
            raise OSError


async def test_a_client_is_made_when_first_asked_and_used_again() -> None:
    server = Server()
    check = ConnectedCheck(server.connect)
    assert server.opened == 0
    for _ in range(3):
        assert (await check.check()).state == "up"
    assert await check() is True
    assert (server.opened, server.check.calls, server.closed) == (1, 4, [])


async def test_a_client_that_cannot_be_made_is_a_failure_and_tried_again() -> None:
    server = Server()
    check = ConnectedCheck(server.connect)
    server.refuses = True
    with pytest.raises(ConnectionRefusedError):
        await check.check()
    assert await check() is False
    server.refuses = False
    assert await check() is True


@pytest.mark.parametrize("reconnects", [True, False])
@pytest.mark.parametrize("bad", [CheckResult(state="down"), OSError()])
async def test_a_client_that_does_not_find_its_way_back_is_made_anew(
    bad: CheckResult | Exception, reconnects: bool
) -> None:
    server = Server(reconnects=reconnects)
    check = ConnectedCheck(server.connect)
    await check.check()
    server.check.result = bad
    assert await check() is False
    server.check.result = CheckResult()
    assert await check() is True
    assert (server.opened, len(server.closed)) == ((1, 0) if reconnects else (2, 1))


async def test_a_client_that_was_cut_off_is_made_anew() -> None:
    server = Server(reconnects=False)
    check = ConnectedCheck(server.connect)

    class Hanging:
        async def check(self) -> CheckResult:
            await asyncio.Event().wait()
            return CheckResult()

    connection = await server.connect()
    check._clients._clients[asyncio.get_running_loop()] = connection._replace(check=Hanging())
    asking = asyncio.create_task(check.check())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(server.closed) == 1
    assert await check() is True
    assert server.opened == 2


async def test_every_loop_has_a_client_of_its_own_and_each_is_closed_there() -> None:
    server = Server()
    check = ConnectedCheck(server.connect)
    await check.check()
    with ThreadedLoop() as other:
        for _ in range(2):
            asyncio.run_coroutine_threadsafe(check.check(), other.loop).result(PATIENCE_SECONDS)
        assert server.opened == 2
        await check.aclose()
        assert set(server.closed) == {asyncio.get_running_loop(), other.loop}
        await check.aclose()
        assert len(server.closed) == 2
    assert await check() is True
    assert server.opened == 3


async def test_the_clients_of_a_loop_that_is_gone_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    check = ConnectedCheck(server.connect)
    with ThreadedLoop() as stopped, ThreadedLoop() as closed:
        for other in (stopped, closed):
            asyncio.run_coroutine_threadsafe(check.check(), other.loop).result(PATIENCE_SECONDS)
        stopped.stop()
        closed.stop()
        closed.loop.close()
        monkeypatch.setattr(closed.loop, "is_running", lambda: True)  # as it was a moment ago
        await check.aclose()
        monkeypatch.undo()
    assert server.closed == []


async def test_closing_waits_no_longer_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "PATIENCE_SECONDS", 0.01)
    server = Server()
    check = ConnectedCheck(server.connect)
    await check.check()
    server.closing_hangs = True
    await check.aclose()
    await check.check()
    server.closing_hangs, server.closing_raises = False, True
    await check.aclose()
    assert len(server.closed) == 2
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


async def test_a_forked_child_connects_anew_and_closes_nothing_of_its_parents() -> None:
    server = Server()
    check = ConnectedCheck(server.connect)
    await check.check()
    check.begin_process()
    await check.check()
    assert (server.opened, server.closed) == (2, [])


async def test_a_client_that_was_replaced_meanwhile_is_not_dropped() -> None:
    opened: list[object] = []
    closed: list[object] = []

    async def open_client() -> object:
        opened.append(object())
        return opened[-1]

    async def close(client: object) -> None:
        closed.append(client)

    clients = PerLoop(open_client, close)
    first = await clients.get()
    await clients.drop(first)
    second = await clients.get()
    await clients.drop(first)
    assert await clients.get() is second
    assert (len(opened), closed) == (2, [first])


class Clients:
    """What a `PerLoop` opens and closes, one after the other."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[int] = []
        self.per_loop = PerLoop(self._open, self._close)

    async def _open(self) -> int:
        self.opened += 1
        return self.opened

    async def _close(self, client: int) -> None:
        self.closed.append(client)


async def test_a_client_that_is_exchanged_is_used_to_the_end_and_closed_then() -> None:
    clients = Clients()
    async with clients.per_loop.lend() as first, clients.per_loop.lend() as same:
        assert (first, same) == (1, 1)
        await clients.per_loop.exchange()
        async with clients.per_loop.lend() as second:
            assert second == 2
        assert clients.closed == []
    assert clients.closed == [1]
    assert await clients.per_loop.get() == 2


async def test_a_client_that_nobody_uses_is_closed_when_it_is_exchanged() -> None:
    clients = Clients()
    await clients.per_loop.exchange()
    assert await clients.per_loop.get() == 1
    await clients.per_loop.exchange()
    await clients.per_loop.exchange()
    assert (clients.opened, clients.closed) == (1, [1])


async def test_a_client_is_given_back_by_who_was_cut_off() -> None:
    clients = Clients()

    async def use() -> None:
        async with clients.per_loop.lend():
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    await asyncio.sleep(0)
    await clients.per_loop.exchange()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert clients.closed == [1]


async def test_a_client_that_is_lent_when_a_child_begins_is_the_parents() -> None:
    clients = Clients()
    async with clients.per_loop.lend():
        clients.per_loop.begin_process()
        async with clients.per_loop.lend() as own:
            assert own == 2
    assert clients.closed == []
