"""`HealthServer`: what it answers, whose loop it watches, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple, cast

import pytest

from cqrs_ddd_health import (
    HealthRegistry,
    HealthServer,
    HealthSettings,
    InvalidOptionError,
    ServerError,
)
from cqrs_ddd_health.runtime.loop_watchdog import Pulse, Pulses
from cqrs_ddd_health.runtime.threads import run_blocking
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import Scope, health_app
from cqrs_ddd_health.web.server import threaded as background_server

from . import asgi_client
from .actors import (
    FORKS,
    PATIENCE_SECONDS,
    Gated,
    Stubborn,
    ThreadedLoop,
    Told,
    answer_of_script,
    eventually,
    eventually_sync,
)

PATHS = [
    *(f"/health{path}" for path in ("", "/", "/live", "/ready", "/startup", "/report", "/page")),
    *(f"/health/report/{name}" for name in ("up", "down", "a%20b", "nobody", "x" * 5_000)),
    *("/", "/healthy", "/health/nothing", "/health?a=b"),
]
QUICK = HealthSettings(http_deadline_seconds=0.05, http_max_age_seconds=0, live_stall_seconds=0.3)


class Answer(NamedTuple):
    code: int
    headers: dict[str, str]
    body: bytes


def ask(server: HealthServer, path: str, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def code_of(server: HealthServer, path: str) -> int:
    return ask(server, path).code


async def asked(server: HealthServer, path: str) -> Answer:
    return await run_blocking(lambda: ask(server, path))


def own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "cqrs-health-server"]


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    yield
    eventually_sync(lambda: own_threads() == [])


class LoopSpy:
    """An async check that knows which loops it ran on."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def __call__(self) -> bool:
        self.loops.append(asyncio.get_running_loop())
        return True


# --- what it answers


def registry_of_two() -> HealthRegistry:
    registry = HealthRegistry(clock=FakeClock())
    registry.register("up", lambda: True)
    registry.register("down", lambda: False, critical=False)
    registry.register("a b", lambda: True)
    return registry


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "TRACE", "OPTIONS"])
def test_every_answer_is_that_of_the_application(method: str) -> None:
    registry = registry_of_two()
    registry.report_sync()
    app = health_app(registry)
    with HealthServer(registry, port=0) as server:
        for path in PATHS:
            answer = ask(server, path, method)
            decoded = path.partition("?")[0].replace("%20", " ")
            expected = asyncio.run(asgi_client.request(app, decoded, method))
            assert answer.headers.pop("date")
            assert answer == Answer(*expected), path
            assert "x" * 100 not in answer.body.decode()


def test_its_address() -> None:
    with HealthServer(HealthRegistry(), port=0) as server:
        assert server.port > 0
        assert server.url == f"http://127.0.0.1:{server.port}"
    with HealthServer(HealthRegistry(), "::1", 0) as server:
        assert server.url == f"http://[::1]:{server.port}"
        with socket.create_connection(("::1", server.port)) as client:
            client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("host", "port"), [("", 0), ("a b", 0), ("127.0.0.1", -1), ("127.0.0.1", 65_536), ("::", True)]
)
def test_an_address_that_is_none(host: str, port: int) -> None:
    with pytest.raises(InvalidOptionError, match=r"^(host|port) must be"):
        HealthServer(HealthRegistry(), host, port)


def test_a_port_that_is_taken_is_named() -> None:
    with HealthServer(HealthRegistry(), port=0) as first:
        with pytest.raises(ServerError, match=f"127.0.0.1:{first.port}: Address already in") as no:
            HealthServer(HealthRegistry(), port=first.port).__enter__()
        assert isinstance(no.value.__cause__, OSError)


async def test_it_is_entered_once_at_a_time_and_may_be_entered_again() -> None:
    server = HealthServer(HealthRegistry(), port=0)
    for ask_for in ("url", "port"):
        with pytest.raises(ServerError, match="listens nowhere"):
            getattr(server, ask_for)
    for _ in range(2):
        async with server:
            with pytest.raises(ServerError, match=f"entered already.*{server.url}"):
                await server.__aenter__()
            with pytest.raises(ServerError, match="entered already"):
                server.__enter__()
            assert (await asked(server, "/health/live")).code == 200
        assert own_threads() == []
        await server.__aexit__()  # left already, and nothing to do
        server.__exit__()


def test_many_clients_at_once_share_the_flights() -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=60), own_loop=True)
    check = registry.register("check", Told())
    with HealthServer(registry, port=0) as server:
        found: list[int] = []
        clients = [
            threading.Thread(target=lambda: found.append(code_of(server, "/health/ready")))
            for _ in range(100)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(PATIENCE_SECONDS)
    assert found == [200] * 100
    assert check.calls <= 2  # the background's first run may have come before


# --- whose loop


def test_a_sync_worker_has_its_checks_refreshed_on_a_loop_of_the_registrys_own() -> None:
    registry = HealthRegistry(own_loop=True)
    spy = registry.register("check", LoopSpy())
    refreshing: list[bool] = []
    with HealthServer(registry, port=0) as server:
        assert code_of(server, "/health/ready") == 200
        refreshing.append(registry.refreshing)
        assert registry.report_sync().status == "healthy"
    assert [*refreshing, registry.refreshing] == [True, False]
    assert len(set(spy.loops)) == 1
    assert spy.loops[0].is_closed()


@pytest.mark.parametrize("is_async", [True, False])
async def test_inside_a_loop_that_loop_owns_the_checks(is_async: bool) -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0))
    spy = registry.register("check", LoopSpy())
    server = HealthServer(registry, port=0)
    with ThreadedLoop() as other:
        other.report(registry)  # it was the first to ask, and is not the owner any more
        before = len(spy.loops)
        if is_async:
            async with server:
                assert (await asked(server, "/health/ready")).code == 200
                await run_blocking(lambda: registry.report_sync().status)
        else:
            with server:
                assert (await asked(server, "/health/ready")).code == 200
                await run_blocking(lambda: registry.report_sync().status)
        assert set(spy.loops[before:]) == {asyncio.get_running_loop()}
    await eventually(lambda: own_threads() == [])


def seen_while_busy(server: HealthServer, path: str, code: int) -> threading.Thread:
    """Start to ask that path on a thread until it says `code`."""
    thread = threading.Thread(target=lambda: eventually_sync(lambda: code_of(server, path) == code))
    thread.start()
    return thread


async def test_while_the_loop_is_busy_ready_says_no_and_live_says_yes_for_long() -> None:
    registry = HealthRegistry(settings=QUICK)

    async def check() -> bool:
        return True

    registry.register("check", check)
    async with HealthServer(registry, port=0) as server:
        assert (await asked(server, "/health/ready")).body == (
            b'{"ready":true,"components":{"check":"up"}}'
        )
        seen_while_busy(server, "/health/ready", 503).join()  # which blocks this loop
        ready = ask(server, "/health/ready")
        assert b'"event_loop":"down"' in ready.body
        row = ask(server, "/health/report/event_loop")
        assert row.code == 503
        assert b'"kind":"hung"' in row.body
        seen_while_busy(server, "/health/live", 503).join()
        assert ask(server, "/health/live").body == b'{"status":"dead"}'
        # A report that is made on the loop itself shows that it goes on.
        assert (await registry.report()).component("event_loop") is None
        await asyncio.sleep(0)
        for path in ("/health/live", "/health/ready"):
            await run_blocking(seen_while_busy(server, path, 200).join)


async def test_live_is_never_no_if_it_must_not_be() -> None:
    settings = QUICK.model_copy(update={"live_stall_seconds": 0.0})
    async with HealthServer(HealthRegistry(settings=settings), port=0) as server:
        seen_while_busy(server, "/health/ready", 503).join()
        time.sleep(0.3)
        assert code_of(server, "/health/live") == 200


async def test_a_check_that_has_the_name_of_the_row_keeps_it() -> None:
    registry = HealthRegistry(settings=QUICK)
    registry.register("event_loop", lambda: True)
    async with HealthServer(registry, port=0) as server:
        await asked(server, "/health/ready")
        seen_while_busy(server, "/health/ready", 503).join()
        assert b'"event_loop":"up","event_loop_":"down"' in ask(server, "/health/ready").body


def test_a_loop_that_has_stopped_does_not_answer_either() -> None:
    registry = HealthRegistry(settings=QUICK)
    loop = asyncio.new_event_loop()
    server = HealthServer(registry, port=0)
    loop.run_until_complete(server.__aenter__())
    eventually_sync(lambda: code_of(server, "/health/ready") == 503)
    loop.close()
    assert code_of(server, "/health/ready") == 503
    server.__exit__()


# --- the pulse


async def test_a_silence_is_counted_in_pauses_that_were_as_long_as_they_should_be() -> None:
    with ThreadedLoop() as other:
        pulse = Pulse(other.loop, 0.1)
        held = threading.Event()
        other.loop.call_soon_threadsafe(held.wait)
        pulse.ask()
        pulse.see(0.1)
        pulse.ask()  # it owes one already
        pulse.see(3_600)  # the machine slept
        assert pulse.silent_seconds == pytest.approx(0.3)
        held.set()
        await eventually(lambda: pulse.silent_seconds == 0)
        pulse.ask()
        await eventually(lambda: pulse.silent_seconds == 0)


async def test_a_closed_loop_is_silent() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    pulses = Pulses()
    async with pulses.watching(None, 1), pulses.watching(loop, 0.0001):
        await eventually(lambda: pulses.silent_seconds() > 0.02)
    assert pulses.silent_seconds() == 0


# --- its end


def held_connections(server: HealthServer) -> list[socket.socket]:
    """One that says nothing, one in the middle of a head, one after an answer."""
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    held[1].sendall(b"GET / HT")
    held[2].sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert held[2].recv(100).startswith(b"HTTP/1.1 200 OK")
    return held


def test_connections_that_are_held_open_do_not_keep_it() -> None:
    with HealthServer(HealthRegistry(), port=0) as server:
        port = server.port
        held = held_connections(server)
    assert own_threads() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for client in held:
        client.close()


def test_a_check_that_does_not_end_is_left_behind_and_the_loop_is_not() -> None:
    registry = HealthRegistry(settings=QUICK, own_loop=True)
    stubborn = registry.register("check", Stubborn())

    left: set[asyncio.Task[None]] = set()

    async def leaves_a_task() -> bool:
        left.add(asyncio.create_task(asyncio.sleep(3_600)))
        return True

    registry.register("careless", leaves_a_task)
    with HealthServer(registry, port=0) as server:
        assert code_of(server, "/health/ready") == 503
    assert own_threads() == []
    assert stubborn.calls == 1
    assert stubborn.cancellations > 0


async def test_an_exit_that_blocks_the_loop_it_needs_does_not_wait_for_it() -> None:
    registry = HealthRegistry(settings=QUICK)
    gated = registry.register("check", Gated())
    with HealthServer(registry, port=0) as server:
        port = server.port
        assert (await asked(server, "/health/ready")).code == 503
        assert gated.calls == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    await eventually(lambda: own_threads() == [])
    assert not registry.refreshing
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


def test_an_exit_ends_while_the_owner_is_blocked() -> None:
    registry = HealthRegistry(settings=QUICK)
    registry.register("check", Gated())
    held = threading.Event()
    with ThreadedLoop() as owner:
        server = HealthServer(registry, port=0)
        asyncio.run_coroutine_threadsafe(server.__aenter__(), owner.loop).result(PATIENCE_SECONDS)
        assert code_of(server, "/health/ready") == 503
        owner.loop.call_soon_threadsafe(held.wait)
        server.__exit__()
        assert own_threads() == []
        held.set()
        eventually_sync(lambda: not asyncio.all_tasks(owner.loop))


async def test_an_exit_that_is_cancelled_ends_it_all_the_same() -> None:
    server = HealthServer(HealthRegistry(), port=0)
    await server.__aenter__()
    leaving = asyncio.create_task(server.__aexit__())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await eventually(lambda: own_threads() == [])


async def test_an_exit_gives_up_on_a_thread_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_server, "EXIT_SECONDS", 0.05)
    held = threading.Event()
    for is_async in (True, False):
        registry = HealthRegistry(settings=QUICK)
        server = HealthServer(registry, port=0)
        with ThreadedLoop() as other:
            entering = asyncio.run_coroutine_threadsafe(server.__aenter__(), other.loop)
            await asyncio.wrap_future(entering)
            service = server._service
            assert service is not None
            held.clear()
            service._loop.call_soon_threadsafe(held.wait)
            if is_async:
                await server.__aexit__()
            else:
                server.__exit__()
            assert own_threads() == ["cqrs-health-server"]
            held.set()
            await eventually(lambda: own_threads() == [])


def test_what_ends_with_its_own_loop_is_not_told_to_end_again() -> None:
    server = HealthServer(HealthRegistry(), port=0)
    server.__enter__()
    service = server._service
    assert service is not None
    service.stop()
    service.wait(None)
    server.__exit__()


def test_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = HealthServer(HealthRegistry(), port=0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            server.__enter__()
    with server:
        assert code_of(server, "/health/live") == 200


def test_an_authorizer_decides_who_sees_everything() -> None:
    settings = HealthSettings(detail="authorized")
    registry = HealthRegistry(settings=settings, own_loop=True)
    registry.register("check", Told(OSError("its words")), tags=["a b"])

    def is_ops(scope: Scope) -> bool:
        return (b"x-role", b"ops") in cast("list[object]", scope["headers"])

    with HealthServer(registry, port=0, authorizer=is_ops) as server:
        for role in ("ops", "dev"):
            asked = urllib.request.Request(
                f"{server.url}/health/report?tag=a%20b",
                headers={"X-Role": role, "Accept": "application/health+json"},
            )
            with pytest.raises(urllib.error.HTTPError) as answered:
                urllib.request.urlopen(asked, timeout=20)
            with answered.value as answer:
                assert answer.code == 503
                assert answer.headers["Content-Type"] == "application/health+json"
                assert (b"its words" in answer.read()) == (role == "ops")


def test_a_child_of_a_fork_has_nothing_to_leave_of_a_server_that_is_not_entered() -> None:
    server = HealthServer(HealthRegistry(), port=0)
    server.begin_process()
    with server:
        assert ask(server, "/health/live").code == 200


def test_where_it_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def connections(app: object) -> object:
        raise MemoryError

    monkeypatch.setattr(background_server, "Connections", connections)
    with pytest.raises(MemoryError):
        HealthServer(HealthRegistry(), port=0).__enter__()


def test_a_failure_of_its_end_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException] | None] = []

    def tell(args: threading.ExceptHookArgs) -> None:
        told.append(args.exc_type)

    monkeypatch.setattr(threading, "excepthook", tell)

    async def aclose() -> None:
        raise ValueError

    registry = HealthRegistry()
    monkeypatch.setattr(registry, "aclose", aclose)
    with HealthServer(registry, port=0):
        pass
    assert told == [ValueError]


FORK = """
import os, socket, sys, http.client, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
from cqrs_ddd_health import HealthRegistry, HealthServer, ServerError
def code(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/health/live")
    with connection.getresponse() as response:
        status = response.status
    connection.close()
    return status
gone = HealthServer(HealthRegistry(), port=0)
with gone:
    pass
server = HealthServer(HealthRegistry(), port=0)
with server:
    port, (reader, writer), (looked, look) = server.port, os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        try:
            server.port  # where it notices a fork in C, and closes its side of the socket
        except ServerError:
            os.write(look, b"x")
        os.read(reader, 1)  # until the parent has left
        with server:
            print(code(server.port), flush=True)
        server = None
        module = sys.modules.get("coverage")
        running = module and module.Coverage.current()
        if running:
            running.stop()
            running.save()
        os._exit(0)
    os.close(reader)
    assert os.read(looked, 1)
    print(code(port), flush=True)
try:
    socket.create_connection(("127.0.0.1", port))
except ConnectionRefusedError:
    print("refused", flush=True)
os.close(writer)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_a_forked_child_leaves_it_to_its_parent_and_may_have_its_own(fork: str) -> None:
    source = FORK.replace("os.fork()", fork)
    assert answer_of_script(source).split("\n") == ["200", "refused", "200"]


def test_the_interpreter_ends_although_nobody_left_it() -> None:
    script = (
        "from cqrs_ddd_health import HealthRegistry, HealthServer\n"
        "server = HealthServer(HealthRegistry(), port=0).__enter__()\n"
        "print(server.port > 0)"
    )
    assert answer_of_script(script) == "True"
