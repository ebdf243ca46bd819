"""The engine in a process of its own: it forks, exits and is interrupted as any other."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from typing import NoReturn

import pytest

from cqrs_ddd_health.runtime import forking as forks
from tests.core.actors import FORKS, PATIENCE_SECONDS, answer_of_script, run_script

_BEGIN = """
import asyncio, os, signal, sys, threading, time
from cqrs_ddd_health import HealthRegistry
registry = HealthRegistry.get_instance()
"""


def answer_of(source: str) -> str:
    return answer_of_script(_BEGIN + source)


# --- fork

_IN_CHILD = """
def measured():
    "Save what coverage saw in this child: it ends without its exit handlers."
    module = sys.modules.get("coverage")
    running = module and module.Coverage.current()
    if running:
        running.stop()
        running.save()
def in_child(what):
    pid = os.fork()
    if pid == 0:
        try:
            what()
            sys.stdout.flush()
            measured()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


by_python_and_by_c = pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)


def in_child(fork: str) -> str:
    return _IN_CHILD.replace("os.fork()", fork)


@by_python_and_by_c
def test_a_forked_child_asks_anew_with_an_instance_of_its_own_and_no_beats(fork: str) -> None:
    source = """
registry = HealthRegistry(own_loop=True)
HealthRegistry.set_instance(registry)
async def check():
    await asyncio.sleep(0)
    return True
registry.register("check", check)
registry.register("sync", lambda: True)
registry.expect("expected")
registry.heartbeat("worker")
parent = registry.report_sync()
asyncio.run(registry.report())
def child():
    report = asyncio.run(registry.report())
    assert [row.name for row in report.components] == ["check", "sync", "expected"], report
    assert [row.state for row in report.components] == ["up", "up", "down"], report
    assert report.service.instance != parent.service.instance
    assert registry.report_sync().status == "unhealthy"
    registry.heartbeat("worker")
    row = registry.report_sync().component("worker")
    assert row.state == "up"
    assert HealthRegistry.get_instance() is registry
    print("child")
in_child(child)
assert registry.report_sync().component("worker").state == "up"
print("parent")
"""
    assert answer_of(in_child(fork) + source).split() == ["child", "parent"]


@by_python_and_by_c
def test_a_registry_that_ends_in_a_forked_child_leaves_the_parents_thread_alone(fork: str) -> None:
    source = """
import gc
one = HealthRegistry()
one.register("check", lambda: True)
one.report_sync()
def child():
    global one
    del one
    gc.collect()
    print("child")
in_child(child)
assert one.report_sync(deadline_seconds=10).status == "healthy"
print("parent")
"""
    assert answer_of(in_child(fork) + source).split() == ["child", "parent"]


@by_python_and_by_c
def test_a_forked_child_is_not_held_up_by_what_hangs_in_its_parent(fork: str) -> None:
    source = """
registry = HealthRegistry(own_loop=True)
hangs = threading.Event()
registry.register("sync", lambda: hangs.wait(), timeout_seconds=0.02)
async def stubborn():
    while not hangs.is_set():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
    return True
registry.register("async", stubborn, timeout_seconds=0.02)
def names():
    return [(row.name, row.failure and row.failure.kind)
            for row in registry.report_sync().components]
names()
assert names() == [("sync", "hung"), ("async", "hung")], names()
assert registry.hung_checks == 2
def child():
    global hangs
    hangs = threading.Event()
    hangs.set()
    assert registry.hung_checks == 0
    assert names() == [("sync", None), ("async", None)], names()
    print("child")
in_child(child)
"""
    assert answer_of(in_child(fork) + source) == "child"


@by_python_and_by_c
def test_a_child_forked_while_locks_are_held_and_listeners_talk_works(fork: str) -> None:
    source = """
import logging
from cqrs_ddd_health import registry as registry_module
from cqrs_ddd_health.runtime import readers
from cqrs_ddd_health.testing import FakeClock
told, said = [], []
class Handler(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("cqrs_ddd_health").addHandler(Handler())
clocked = HealthRegistry(clock=FakeClock())
registry.add_listener(told.append)
registry.register("check", lambda: False)
held, released = threading.Event(), threading.Event()
def hold():
    engine = registry._engine
    with engine.runner.lock, engine.catalog._lock, engine.store._lock, engine.workers._lock, \\
            engine.listeners._listeners._lock, engine.listeners._log._lock, \\
            engine.configured._lock, readers._warnings._lock, clocked._engine._clock._lock, \\
            registry_module._instances._lock:
        held.set()
        released.wait(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
def child():
    registry.register("other", lambda: True)
    registry.heartbeat("worker", instance="me")
    clocked.heartbeat("worker")
    registry.register_from_settings()
    readers.warn("of the child")
    assert registry.report_sync().component("check").state == "down"
    while len(told) < 3 or "of the child" not in said:
        time.sleep(0.001)
    HealthRegistry.set_instance(None)
    assert HealthRegistry.get_instance() is not registry
    print("child")
in_child(child)
released.set()
"""
    assert answer_of(in_child(fork) + source) == "child"


@by_python_and_by_c
def test_a_child_forked_inside_a_running_loop_asks_on_a_loop_of_its_own(fork: str) -> None:
    source = """
async def check():
    await asyncio.sleep(0)
    return True
registry.register("check", check)
async def main():
    await registry.report()
    def child():
        def ask():
            report = asyncio.run(registry.report())
            assert report.status == "healthy", report
            print("child", flush=True)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    in_child(child)
    assert (await registry.report()).status == "healthy"
asyncio.run(main())
"""
    assert answer_of(in_child(fork) + source) == "child"


@by_python_and_by_c
def test_the_first_beat_of_a_forked_child_is_its_own_whichever_thread_makes_it(fork: str) -> None:
    source = """
registry.heartbeat("worker")
registry.heartbeat("parents", phase="busy")
parent = registry.report_sync().service.instance
def child():
    begin = threading.Barrier(8)
    def beat(number):
        begin.wait()
        registry.heartbeat("worker" if number % 2 else f"worker {number}")
    threads = [threading.Thread(target=beat, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = registry.report_sync()
    assert {record.instance for record in report.heartbeats} == {report.service.instance}
    assert report.service.instance != parent
    print(*sorted(record.worker for record in report.heartbeats), sep=", ")
in_child(child)
"""
    names = "worker, worker 0, worker 2, worker 4, worker 6"
    assert answer_of(in_child(fork) + source) == names


@by_python_and_by_c
def test_a_forked_child_that_only_ends_does_not_say_goodbye_for_its_parent(fork: str) -> None:
    source = """
from cqrs_ddd_health import MemoryHeartbeatStore
from cqrs_ddd_health.heartbeats import publisher
registry = HealthRegistry(heartbeat_store=MemoryHeartbeatStore())
registry.heartbeat("worker")
publisher.Publisher.leave = lambda self, **_: self.is_running and print("leaves", flush=True)
pid = FORK
if pid == 0:
    sys.exit()  # with all its exit handlers
assert os.waitpid(pid, 0)[1] == 0
print("the parent")
"""
    assert answer_of(source.replace("FORK", fork)).splitlines() == ["the parent", "leaves"]


@by_python_and_by_c
def test_what_a_forked_child_asks_first_is_answered_for_the_child(fork: str) -> None:
    source = """
from cqrs_ddd_health import run_blocking
registry.heartbeat("worker")
registry.register("hangs", threading.Event().wait, timeout_seconds=0.02)
registry.report_sync()
registry.report_sync()
assert registry.hung_checks == 1
def hung():
    assert registry.hung_checks == 0
def heartbeats():
    assert registry.measurements().report.heartbeats == ()
def registers():
    registry.register("other", lambda: True)
    registry.unregister("hangs")
    assert registry.report_sync().service.instance != parent
def default():
    assert HealthRegistry.get_instance() is registry
    HealthRegistry.set_instance(None)
def blocking():
    assert asyncio.run(run_blocking(lambda: 5)) == 5
parent = registry.report_sync().service.instance
for what in (hung, heartbeats, registers, default, blocking):
    in_child(what)
    print(what.__name__)
"""
    asked = ["hung", "heartbeats", "registers", "default", "blocking"]
    assert answer_of(in_child(fork) + source).split() == asked


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_where_no_page_can_be_wiped_the_pid_tells(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    def none_to_be_had(*_: object, **__: object) -> NoReturn:
        raise OSError

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(mmap, "mmap", none_to_be_had)
    is_known, set_known = forks.new_mark()
    assert not is_known
    set_known()
    assert is_known
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert not is_known
    set_known()
    assert is_known


# --- exit

_STUBBORN = """
async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
registry.register("stubborn", stubborn, timeout_seconds=0.02)
"""
_HANGING_THREADS = """
for number in range(64):
    registry.register(f"hangs {number}", threading.Event().wait, timeout_seconds=0.02)
"""


def test_asyncio_run_returns_and_the_process_exits_although_checks_hang() -> None:
    source = """
async def main():
    await registry.report()
    report = await registry.report()
    print({row.failure.kind for row in report.components}, registry.hung_checks)
asyncio.run(main())
print("returned")
"""
    answer = answer_of(_STUBBORN + _HANGING_THREADS + source)
    assert answer.splitlines() == ["{'hung'} 65", "returned"]


def test_the_process_exits_although_the_loop_of_report_sync_runs() -> None:
    source = """
print(registry.report_sync().status)
"""
    own = "registry = HealthRegistry(own_loop=True)\n"
    assert answer_of(own + _STUBBORN + _HANGING_THREADS + source) == "unhealthy"


def test_asyncio_run_returns_while_a_flight_is_under_way() -> None:
    source = """
async def check():
    await asyncio.sleep(60)
registry.register("check", check)
registry.register("sync", threading.Event().wait)
asyncio.run(registry.report(deadline_seconds=0.01))
print("returned")
"""
    assert answer_of(source) == "returned"


def test_a_check_that_calls_exit_does_not_end_the_process() -> None:
    source = """
async def leaves():
    await asyncio.sleep(0)
    sys.exit(3)
registry.register("async", leaves)
registry.register("sync", lambda: sys.exit(3))
async def main():
    report = await registry.report()
    await asyncio.sleep(0.01)
    return [row.failure.exception_type for row in report.components]
print(asyncio.run(main()))
"""
    assert answer_of(source) == "['SystemExit', 'SystemExit']"


# --- Ctrl-C

_INTERRUPTED = """
class Interrupted(Exception):
    pass
async def quick():
    await asyncio.sleep(0)
    return True
async def busy():
    print("begun", flush=True)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.001)
        if {suspends}:
            await asyncio.sleep(0)
    return True
registry.register("quick", quick)
registry.register("busy", busy, timeout_seconds=60)
async def main():
    while True:
        await registry.report()
try:
    {run}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
_RUN = "asyncio.run(main())"
_RUN_UNTIL_COMPLETE = "asyncio.new_event_loop().run_until_complete(main())"


def interrupted(source: str) -> str:
    """Run `source`, send it a SIGINT when it has begun, and return what it printed after that."""
    with subprocess.Popen(
        [sys.executable, "-c", _BEGIN + source], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        try:
            printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    return printed.strip()


@pytest.mark.parametrize(
    ("run", "suspends"),
    [(_RUN, True), (_RUN_UNTIL_COMPLETE, True), (_RUN_UNTIL_COMPLETE, False)],
    ids=["run", "run_until_complete", "run_until_complete in a check that blocks"],
)
def test_a_real_ctrl_c_reaches_the_application(run: str, suspends: bool) -> None:
    source = _INTERRUPTED.replace("{run}", run).replace("{suspends}", str(suspends))
    assert interrupted(source) == "interrupted"


def test_a_real_ctrl_c_reaches_who_waits_in_report_sync() -> None:
    source = """
async def hangs():
    print("begun", flush=True)
    await asyncio.sleep(60)
registry = HealthRegistry(own_loop=True)
registry.register("hangs", hangs, timeout_seconds=60)
try:
    registry.report_sync()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    assert interrupted(source) == "interrupted"


def test_a_keyboard_interrupt_of_a_checks_own_making_ends_nothing_under_asyncio_run() -> None:
    source = """
async def check():
    await asyncio.sleep(0)
    raise KeyboardInterrupt
registry.register("check", check)
report = asyncio.run(registry.report())
print(report.components[0].failure.exception_type)
"""
    assert answer_of(source) == "KeyboardInterrupt"


# --- import


def test_the_package_costs_nothing_until_a_name_is_used() -> None:
    source = """
import sys
import cqrs_ddd_health
assert "pydantic" not in sys.modules
assert "HealthRegistry" in dir(cqrs_ddd_health)
cqrs_ddd_health.HealthRegistry
for optional in ("sqlalchemy", "redis", "fastapi", "prometheus_client", "uvicorn", "starlette"):
    assert optional not in sys.modules, optional
try:
    cqrs_ddd_health.nonsense
except AttributeError as error:
    print(error)
"""
    done = run_script(source)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "module 'cqrs_ddd_health' has no attribute 'nonsense'"


def test_asyncio_run_returns_although_a_check_in_flight_swallows_its_cancellation() -> None:
    source = """
import asyncio
from cqrs_ddd_health import HealthRegistry
registry = HealthRegistry()
async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
registry.register("stubborn", stubborn, timeout_seconds=0.5)
asyncio.run(registry.report(deadline_seconds=0.01))
print("returned")
"""
    assert answer_of_script(source) == "returned"
