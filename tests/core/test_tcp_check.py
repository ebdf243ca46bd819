"""The check of a port: who accepts, how a name is looked up, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from cqrs_ddd_health import InvalidOptionError, TcpHealthCheck
from cqrs_ddd_health.clients.sockets import connected
from tests.listening import LOCALHOST, listening

from .actors import answer_of_script, eventually

HANGING_LOOKUP = """
import asyncio, socket, threading
from cqrs_ddd_health import HealthRegistry, TcpHealthCheck

socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
registry = HealthRegistry()
registry.register("tcp", TcpHealthCheck("name.example", 80), timeout_seconds=0.01)
print(asyncio.run(registry.check_all()))
"""


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])


class Lookup:
    """Stands in for `socket.getaddrinfo` and finds these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.threads: list[threading.Thread] = []
        self._addresses = addresses

    def __call__(self, host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        self.threads.append(threading.current_thread())
        return [(0, 0, 0, "", (address, port)) for address in self._addresses]


async def test_a_port_that_accepts_is_up_and_is_left_again() -> None:
    async with listening() as listener:
        check = TcpHealthCheck(LOCALHOST, listener.port)
        result = await check.check()
        assert (result.state, result.details) == ("up", {"address": LOCALHOST})
        assert await check()
        await eventually(lambda: (listener.accepted, listener.left) == (2, 2))


async def test_a_port_that_nobody_listens_on_raises_and_is_down() -> None:
    check = TcpHealthCheck(LOCALHOST, unused_port())
    with pytest.raises(ConnectionRefusedError):
        await check.check()
    assert await check() is False


async def test_a_name_that_does_not_resolve_raises_and_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror):
        await TcpHealthCheck("nobody.invalid", 80).check()


async def test_the_addresses_of_a_name_are_tried_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as listener:
        lookup = Lookup("127.0.0.9", LOCALHOST, "127.0.0.8")
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        result = await TcpHealthCheck("several.example", listener.port).check()
    assert result.details == {"address": LOCALHOST}
    assert threading.current_thread() not in lookup.threads
    assert all(thread.daemon for thread in lookup.threads)


async def test_what_the_last_address_raised_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Lookup("127.0.0.9", "127.0.0.8"))
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.8"):
        await TcpHealthCheck("several.example", unused_port()).check()


def test_a_lookup_that_hangs_keeps_nobody_from_leaving() -> None:
    assert answer_of_script(HANGING_LOOKUP) == "{'tcp': 'down'}"


async def test_a_connection_is_closed_when_its_block_is_cancelled() -> None:
    inside = asyncio.Event()

    async def stay(port: int) -> None:
        async with connected(LOCALHOST, port):
            inside.set()
            await asyncio.Event().wait()

    async with listening() as listener:
        task = asyncio.create_task(stay(listener.port))
        await inside.wait()
        assert (listener.accepted, listener.left) == (1, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: listener.left == 1)


@pytest.mark.parametrize("turns", range(12))
async def test_whenever_it_is_cancelled_no_connection_is_left(turns: int) -> None:
    async with listening() as listener:
        task = asyncio.create_task(TcpHealthCheck(LOCALHOST, listener.port).check())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: listener.left == listener.accepted)


@pytest.mark.parametrize("port", [0, -1, 65_536, True, "80", 80.0, None])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(InvalidOptionError, match="port must be from 1 to 65535"):
        TcpHealthCheck(LOCALHOST, port)


@pytest.mark.parametrize("host", ["", " ", "a b", "a\n", "a\0", "a" * 64, "a..b", None, 1])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(InvalidOptionError, match="host must be a host name or an IP address"):
        TcpHealthCheck(host, 80)


@pytest.mark.parametrize("host", ["db", "db.example.", "::1", "192.0.2.1", "bücher.example", "a_b"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    TcpHealthCheck(host, 65_535)
