"""SIGTERM that a loop has the handler of, and what becomes of it in a forked child."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from cqrs_ddd_health import HealthRegistry, drain_on_sigterm
from cqrs_ddd_health.runtime import sigterm
from tests.core.actors import FORKS, PATIENCE_SECONDS, eventually, without_slowness
from tests.core.sigterms import LONG, SOON, Server, terminate

pytestmark = pytest.mark.usefixtures("unchanged_sigterm")


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
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(code=code, delay=delay, prelude=prelude)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return without_slowness(done)


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


by_python_and_by_c = pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)


@by_python_and_by_c
@pytest.mark.parametrize("where", ["", "asyncio.run(main())"])
def test_a_forked_child_ends_as_it_would_have_without_us(where: str, fork: str) -> None:
    code = FORK.format(child="pass").replace("os.fork()", fork)
    if where:  # held back on a loop, which the child has a copy of
        code = code.replace("    child =", "    drain_on_sigterm(registry)\n    child =")
    done = run(code, delay=LONG)
    assert done.stderr == ""
    assert done.stdout == f"{-signal.SIGTERM}\nparent True\n"


@by_python_and_by_c
def test_a_forked_child_that_answers_for_its_health_holds_it_back_too(fork: str) -> None:
    code = FORK.format(child="reported()").replace("os.fork()", fork)
    prelude = """
def reported():
    asyncio.events._set_running_loop(None)  # as if it had been forked without one
    asyncio.run(registry.report())
"""
    done = run(code, delay=LONG, prelude=prelude)
    assert (done.stdout, done.stderr) == ("lives True\n7\nparent True\n", "")
