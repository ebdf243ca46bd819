"""SIGTERM is held back while the process says that it leaves, and then takes its course."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from cqrs_ddd_health import (
    DrainError,
    HealthError,
    HealthRegistry,
    HealthSettings,
    InvalidOptionError,
    drain_on_sigterm,
    sigterm,
)
from tests.core.actors import PATIENCE_SECONDS, Gated, eventually

LONG = 3_600.0
SOON = 0.05


class Server:
    """A handler as servers have them; it counts the signals that it got."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.signals: list[int] = []
        self._before = before

    def __call__(self, sign: int, _frame: FrameType | None = None) -> None:
        self._before()
        self.signals.append(sign)

    def install(self) -> Server:
        signal.signal(signal.SIGTERM, self)
        return self


@pytest.fixture(autouse=True)
def _unchanged_afterwards() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a test that fails must not end the run
    yield
    left = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    wakeup = signal.set_wakeup_fd(-1)
    assert (type(left).__name__ == "_Link", wakeup) == (False, -1)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def until(condition: Callable[[], bool]) -> None:
    """Wait in the main thread, where handlers run, without a loop."""
    woken = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if condition():
            return
        woken.wait(0.005)
    raise AssertionError("it did not come true")


def test_it_drains_at_once_and_the_server_is_told_after_the_delay() -> None:
    registry = HealthRegistry()
    drained: list[bool] = []
    server = Server(lambda: drained.append(registry.draining)).install()
    with drain_on_sigterm(registry, delay_seconds=SOON):
        assert not registry.draining
        terminate()
        assert (registry.draining, server.signals) == (True, [])
        until(lambda: server.signals == [signal.SIGTERM])
    assert drained == [True]
    assert signal.getsignal(signal.SIGTERM) is server


def test_the_second_one_is_passed_on_at_once_and_so_are_all_after_it() -> None:
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        terminate()
        assert server.signals == []
        terminate()
        assert server.signals == [signal.SIGTERM]
        terminate()
        assert server.signals == [signal.SIGTERM] * 2


def test_no_delay_drains_and_passes_on() -> None:
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=0):
        terminate()
    assert (registry.draining, server.signals) == (True, [signal.SIGTERM])


def test_the_delay_is_that_of_the_settings_unless_told_otherwise() -> None:
    assert HealthSettings().drain_seconds == 5
    at_once = HealthRegistry(settings=HealthSettings(drain_seconds=0))
    server = Server().install()
    with drain_on_sigterm(at_once):
        terminate()
        assert server.signals == [signal.SIGTERM]
    with drain_on_sigterm(at_once, delay_seconds=LONG):
        terminate()
        assert server.signals == [signal.SIGTERM]


def test_the_longest_delay_counts_and_every_registry_is_drained() -> None:
    one, other, server = HealthRegistry(), HealthRegistry(), Server().install()
    with (
        drain_on_sigterm(one, delay_seconds=0),
        drain_on_sigterm(other, delay_seconds=LONG),
        drain_on_sigterm(one, delay_seconds=0),
    ):
        terminate()
        assert (one.draining, other.draining, server.signals) == (True, True, [])
    assert signal.getsignal(signal.SIGTERM) is server


def test_sigint_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with drain_on_sigterm(HealthRegistry(), delay_seconds=LONG):
        assert signal.getsignal(signal.SIGINT) is before


def test_closed_it_forgets_the_signal_that_it_held_back() -> None:
    server = Server().install()
    threads = threading.active_count()
    drain = drain_on_sigterm(HealthRegistry(), delay_seconds=SOON)
    terminate()
    drain.close()
    drain.close()
    until(lambda: threading.active_count() == threads)
    threading.Event().wait(2 * SOON)
    assert server.signals == []
    with drain_on_sigterm(HealthRegistry(), delay_seconds=LONG):
        terminate()  # it is the first one again
        assert server.signals == []


def test_what_ignores_it_goes_on_ignoring_it() -> None:
    registry = HealthRegistry()
    with drain_on_sigterm(registry, delay_seconds=0):
        terminate()
        terminate()
    assert registry.draining
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_where_there_is_no_thread_to_be_had_it_is_passed_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        terminate()
    assert (registry.draining, server.signals) == (True, [signal.SIGTERM])


def errors_of(call: Callable[[], object]) -> list[BaseException]:
    """What a call raises in another thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except DrainError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return raised


def test_it_is_for_the_main_thread() -> None:
    registry = HealthRegistry()
    assert issubclass(DrainError, HealthError)
    (error,) = errors_of(lambda: drain_on_sigterm(registry, delay_seconds=0))
    assert "main thread" in str(error)
    with drain_on_sigterm(registry, delay_seconds=0) as drain:
        (error,) = errors_of(drain.close)
        assert "main thread" in str(error)
        assert errors_of(registry.report_sync) == []
    assert errors_of(drain.close) == []


def test_a_lifespan_in_another_thread_has_no_signal_to_wait_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, server = HealthRegistry(), Server().install()

    async def lifespan() -> None:
        with drain_on_sigterm(registry, delay_seconds=LONG):
            await registry.report()

    assert errors_of(lambda: asyncio.run(lifespan())) == []
    assert "not in the main thread" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is server


def test_a_handler_that_is_none_of_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_sign: int) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", nothing)
        with pytest.raises(DrainError, match="other than Python"):
            drain_on_sigterm(HealthRegistry(), delay_seconds=0)
    registry = HealthRegistry()
    with drain_on_sigterm(registry, delay_seconds=0):
        with monkeypatch.context() as patch:
            patch.setattr(signal, "getsignal", nothing)
            asyncio.run(registry.report())
        server = Server().install()
    assert signal.getsignal(signal.SIGTERM) is server


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5"])
def test_a_delay_is_a_number_of_seconds(delay: float) -> None:
    with pytest.raises(InvalidOptionError, match="delay_seconds"):
        drain_on_sigterm(HealthRegistry(), delay_seconds=delay)


def test_a_server_that_is_started_later_is_drained_once_somebody_asked() -> None:
    registry, first = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        ours = signal.getsignal(signal.SIGTERM)
        server = Server().install()
        asyncio.run(registry.report(probe="ready"))
        asyncio.run(registry.report(probe="ready"))
        terminate()
        assert (registry.draining, server.signals) == (True, [])
        terminate()
        assert server.signals == [signal.SIGTERM]
        # It has shut down, puts back what it found, and raises the signal again, as uvicorn does.
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
        assert (server.signals, first.signals) == ([signal.SIGTERM], [signal.SIGTERM])
        signal.signal(signal.SIGTERM, first)
    assert signal.getsignal(signal.SIGTERM) is first


async def test_a_handler_of_the_loop_is_told_after_the_delay() -> None:
    loop, registry, told = asyncio.get_running_loop(), HealthRegistry(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    with drain_on_sigterm(registry, delay_seconds=SOON):
        terminate()
        assert registry.draining
        await asyncio.sleep(0)
        assert not told.is_set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    loop.remove_signal_handler(signal.SIGTERM)


async def test_a_handler_of_the_loop_is_told_at_once_the_second_time() -> None:
    loop, registry = asyncio.get_running_loop(), HealthRegistry()
    told: list[str] = []
    loop.add_signal_handler(signal.SIGTERM, told.append, "leave")
    loop.add_signal_handler(signal.SIGUSR1, told.append, "usr1")
    with drain_on_sigterm(registry, delay_seconds=LONG):
        terminate()
        os.kill(os.getpid(), signal.SIGUSR1)  # what else the loop watches, it still gets
        await eventually(lambda: told == ["usr1"])
        terminate()
        await eventually(lambda: told == ["usr1", "leave"])
    # As if nothing had been.
    terminate()
    await eventually(lambda: told == ["usr1", "leave", "leave"])
    os.kill(os.getpid(), signal.SIGUSR1)
    await eventually(lambda: told == ["usr1", "leave", "leave", "usr1"])
    loop.remove_signal_handler(signal.SIGTERM)
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_handler_that_the_loop_gets_later_is_held_back_once_somebody_asked() -> None:
    loop, registry = asyncio.get_running_loop(), HealthRegistry()
    told: list[str] = []
    with drain_on_sigterm(registry, delay_seconds=LONG):
        loop.add_signal_handler(signal.SIGTERM, told.append, "leave")
        await registry.report(probe="ready")
        await registry.report(probe="ready")
        terminate()
        await asyncio.sleep(SOON)
        assert (registry.draining, told) == (True, [])
        terminate()
        await eventually(lambda: told == ["leave"])
        loop.remove_signal_handler(signal.SIGTERM)
        await registry.report(probe="ready")  # and it is held again, with nobody else there
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


async def test_who_has_taken_the_wakeup_since_keeps_it() -> None:
    loop, registry = asyncio.get_running_loop(), HealthRegistry()
    told: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, told.append, "usr1")
    server = Server().install()
    with drain_on_sigterm(registry, delay_seconds=0):
        loop.add_signal_handler(signal.SIGUSR2, told.append, "usr2")
        terminate()
        assert server.signals == [signal.SIGTERM]
    os.kill(os.getpid(), signal.SIGUSR2)
    await eventually(lambda: told == ["usr2"])
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


def test_one_loop_after_the_other_is_held_back() -> None:
    registry = HealthRegistry()
    told: list[str] = []

    async def serve(name: str) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.append, name)
        await registry.report(probe="ready")
        terminate()
        await asyncio.sleep(SOON)
        assert told == []
        terminate()
        await eventually(lambda: told == [name])
        told.clear()

    for name in ("first", "second"):
        with drain_on_sigterm(registry, delay_seconds=LONG):
            asyncio.run(serve(name))
    with drain_on_sigterm(registry, delay_seconds=0):
        asyncio.run(registry.report())
        asyncio.run(registry.report())


async def test_a_child_of_a_fork_gets_it_as_if_nothing_had_been() -> None:
    loop, registry = asyncio.get_running_loop(), HealthRegistry()
    told: list[str] = []
    loop.add_signal_handler(signal.SIGTERM, told.append, "leave")
    with drain_on_sigterm(registry, delay_seconds=LONG):
        sigterm._process.begin_process()  # in a child, nobody counts the lines
        terminate()
        await eventually(lambda: told == ["leave"])
        assert not registry.draining
        sigterm._process.begin_process()
        loop.remove_signal_handler(signal.SIGTERM)
        server = Server().install()
        sigterm._process.begin_process()
    assert signal.getsignal(signal.SIGTERM) is server


def test_what_has_no_handler_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, object]] = []

    def raise_signal(sign: int) -> None:
        raised.append((sign, signal.getsignal(sign)))

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with drain_on_sigterm(HealthRegistry(), delay_seconds=0), monkeypatch.context() as patch:
        patch.setattr(signal, "raise_signal", raise_signal)
        terminate()
    assert raised == [(signal.SIGTERM, signal.SIG_DFL)]


def test_it_comes_again_unless_it_was_let_go() -> None:
    server, released = Server().install(), threading.Event()
    sigterm._send_again(released, 0)  # in its bare thread, nobody counts the lines
    assert server.signals == [signal.SIGTERM]
    released.set()
    sigterm._send_again(released, LONG)
    assert server.signals == [signal.SIGTERM]


async def test_while_it_drains_ready_over_http_waits_for_no_check() -> None:
    registry, check = HealthRegistry(), Gated()
    registry.register("check", check)
    registry.drain()
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await registry.report(probe="ready", refreshed=True, deadline_seconds=LONG)
    assert [row.failure and row.failure.kind for row in report.components] == ["pending"]
    check.gate.set()
    assert (await registry.report(probe="ready")).status == "healthy"  # code gets what it asks


CHILD = """
import asyncio, os, signal, sys, time
from cqrs_ddd_health import HealthRegistry, drain_on_sigterm

registry = HealthRegistry()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
{prelude}
drain_on_sigterm(registry, delay_seconds={delay})
{code}
"""


def run(code: str, *, delay: float, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Run a process that holds SIGTERM back, with nobody's handler under it."""
    return subprocess.run(
        [sys.executable, "-c", CHILD.format(code=code, delay=delay, prelude=prelude)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_with_no_handler_the_signal_ends_the_process_after_the_delay() -> None:
    code = """
os.kill(os.getpid(), signal.SIGTERM)
print(registry.draining, flush=True)
time.sleep(60)
"""
    done = run(code, delay=SOON)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "True\n", "")


FORK = """
async def main():
    child = os.fork()
    if child == 0:
        {child}
        os.kill(os.getpid(), signal.SIGTERM)
        print("lives", registry.draining, flush=True)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.kill(os.getpid(), signal.SIGTERM)
    print("parent", registry.draining)

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["", "asyncio.run(main())"])
def test_a_forked_child_ends_as_it_would_have_without_us(where: str) -> None:
    code = FORK.format(child="pass")
    if where:  # held back on a loop, which the child has a copy of
        code = code.replace("    child =", "    drain_on_sigterm(registry)\n    child =")
    done = run(code, delay=LONG)
    assert done.stderr == ""
    assert done.stdout == f"{-signal.SIGTERM}\nparent True\n"


def test_a_forked_child_that_answers_for_its_health_holds_it_back_too() -> None:
    code = FORK.format(child="reported()")
    prelude = """
def reported():
    asyncio.events._set_running_loop(None)  # as if it had been forked without one
    asyncio.run(registry.report())
"""
    done = run(code, delay=LONG, prelude=prelude)
    assert (done.stdout, done.stderr) == ("lives True\n7\nparent True\n", "")
