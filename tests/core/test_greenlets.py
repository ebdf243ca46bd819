"""Where threads are greenlets, or do not run: with a stand-in that has threads for greenlets.

What gevent itself does is in tests/integration/test_gevent.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cqrs_ddd_health import (
    BlockingCallError,
    HealthRegistry,
    HealthServer,
    MemoryHeartbeatStore,
    ServerError,
)
from cqrs_ddd_health.runtime.greenlets import Handover, running_loop, start_loop, start_thread
from cqrs_ddd_health.runtime.uwsgi import is_before_fork
from tests.core.actors import eventually_sync, row_of


class Hub:
    """Stands for that of one thread."""

    def __init__(self) -> None:
        self.loop = self
        self.thread = threading.current_thread()
        self.called: list[threading.Thread] = []
        self.destroyed = False

    def async_(self) -> Watcher:
        return Watcher()

    def run_callback_threadsafe(
        self, callback: Callable[[Callable[[], None]], object], target: Callable[[], None]
    ) -> None:
        self.called.append(threading.current_thread())
        callback(target)

    def destroy(self, *, destroy_loop: bool) -> None:
        self.destroyed = destroy_loop


class Watcher:
    """Calls back from whichever thread it is sent."""

    open = 0

    def start(self, callback: Callable[[], object]) -> None:
        type(self).open += 1
        self.send = callback

    def stop(self) -> None:
        type(self).open -= 1

    def close(self) -> None:
        """It has been stopped."""


class Gevent:
    """Has a thread for each greenlet, and patches nothing."""

    def __init__(self) -> None:
        self.monkey = SimpleNamespace(
            is_module_patched={"threading": True}.__getitem__, get_original=self.get_original
        )
        self.hubs = threading.local()
        self.spawned: list[Callable[[], None]] = []
        self.threads: list[threading.Thread] = []

    def get_hub(self) -> Hub:
        hub: Hub | None = getattr(self.hubs, "hub", None)
        if hub is None:
            hub = self.hubs.hub = Hub()
        return hub

    def spawn(self, target: Callable[[], None]) -> None:
        self.spawned.append(target)
        threading.Thread(target=target, daemon=True).start()

    def get_original(self, module: str, name: str) -> Callable[..., object]:
        assert module == "_thread"
        return self.start if name == "start_new_thread" else threading.Lock

    def start(self, target: Callable[..., object], arguments: tuple[object, ...]) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()


@pytest.fixture
def gevent(monkeypatch: pytest.MonkeyPatch) -> Gevent:
    gevent = Gevent()
    monkeypatch.setitem(sys.modules, "gevent", gevent)
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent.monkey)
    return gevent


async def up() -> bool:
    await asyncio.sleep(0)
    return True


def test_loops_run_on_threads_of_the_system_and_what_may_block_on_the_applications_hub(
    gevent: Gevent,
) -> None:
    registry = HealthRegistry(own_loop=True)
    registry.register("async", up)
    registry.register("sync", lambda: True)
    here = gevent.get_hub()
    for _ in range(2):
        assert registry.report_sync(deadline_seconds=20).status == "healthy"
    (thread,) = gevent.threads
    assert set(here.called) == {thread}
    assert len(gevent.spawned) >= 2
    assert Watcher.open == 0


def test_what_the_application_starts_itself_is_its_greenlet(gevent: Gevent) -> None:
    done: Handover[None] = Handover()
    start_thread(lambda: done.give(lambda: None), "what")
    assert done.wait(20)
    assert len(gevent.spawned) == 1
    assert gevent.get_hub().called == []


def test_the_hub_of_a_thread_goes_with_it(gevent: Gevent) -> None:
    hubs: list[Hub] = []

    def run(loop: asyncio.AbstractEventLoop) -> None:
        hubs.append(gevent.get_hub())
        loop.run_forever()
        loop.close()

    loop, thread = start_loop(asyncio.new_event_loop, run, "what")
    assert thread.is_alive()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert not thread.is_alive()
    assert [hub.destroyed for hub in hubs] == [True]


def test_a_server_and_a_publisher_work_there(gevent: Gevent) -> None:
    registry = HealthRegistry(heartbeat_store=MemoryHeartbeatStore())
    registry.heartbeat("worker")
    with HealthServer(registry, port=0) as server:
        assert server.port > 0
        assert registry.report_sync().status == "healthy"
    registry.retire("worker")
    asyncio.run(registry.aclose())
    assert len(gevent.threads) == 3


def test_what_cannot_be_made_is_said_where_it_is_wanted() -> None:
    def fails() -> asyncio.AbstractEventLoop:
        raise OSError(24, "no more files")

    with pytest.raises(OSError, match="no more files"):
        start_loop(fails, lambda _: None, "what")


async def test_the_loop_of_another_greenlet_is_not_the_one_that_runs_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = asyncio.get_running_loop()
    assert running_loop() is here
    monkeypatch.setattr(here, "_thread_id", 0)
    assert running_loop() is None
    registry = HealthRegistry()
    with pytest.raises(BlockingCallError, match=r"use gevent, or eventlet\.monkey_patch"):
        registry.report_sync()
    with pytest.raises(ServerError, match=r"use gevent, or eventlet\.monkey_patch"):
        HealthServer(registry, port=0).__enter__()


class Uwsgi:
    """The module that it makes for applications."""

    def __init__(self, *, has_threads: int = 1, worker: int = 1, mule: int = 0, master: int = 0):
        self.has_threads = has_threads
        self.worker_id = lambda: worker
        self.mule_id = lambda: mule
        self.masterpid = lambda: master


def test_where_uwsgi_runs_no_threads_it_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi(has_threads=0))
    registry = HealthRegistry(heartbeat_store=MemoryHeartbeatStore())
    with pytest.raises(ServerError, match="set enable-threads = true"):
        HealthServer(registry, port=0).__enter__()
    with caplog.at_level(logging.WARNING):
        registry.heartbeat("worker")
        registry.heartbeat("worker", phase="busy")
    said = "uWSGI lets no thread of Python run between requests: set enable-threads = true"
    assert caplog.messages == [f"heartbeats cannot be published: {said}"]
    row = row_of(registry.report_sync(), "heartbeat_store")
    assert row.failure is not None
    assert row.failure.message == said
    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi())
    with HealthServer(registry, port=0) as server:
        assert server.port > 0
    registry.retire("worker")
    eventually_sync(lambda: registry.report_sync().component("worker") is None)
    asyncio.run(registry.aclose())


@pytest.mark.parametrize("master", [0, os.getpid()], ids=["no master", "master"])
def test_before_uwsgi_forks_no_thread_publishes_and_after_it_the_next_beat_does(
    monkeypatch: pytest.MonkeyPatch, master: int
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi(worker=0, master=master))
    store = MemoryHeartbeatStore()
    registry = HealthRegistry(heartbeat_store=store)
    before = set(threading.enumerate())
    for _ in range(2):
        registry.heartbeat("worker")
    begun = {thread.name for thread in set(threading.enumerate()) - before}
    assert "cqrs-health-heartbeats" not in begun
    row = row_of(registry.report_sync(), "heartbeat_store")
    assert row.failure is not None
    assert row.failure.message == "the heartbeat store is asked after uWSGI has forked its workers"
    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi())
    registry.heartbeat("worker")
    eventually_sync(lambda: bool(asyncio.run(store.read()).beats))
    registry.retire("worker")
    asyncio.run(registry.aclose())


@pytest.mark.parametrize(
    "uwsgi",
    [Uwsgi(worker=1, master=1), Uwsgi(worker=0, mule=1), Uwsgi(worker=0, master=1), object()],
    ids=["worker", "mule", "spooler", "another module"],
)
def test_other_processes_of_uwsgi_publish(monkeypatch: pytest.MonkeyPatch, uwsgi: object) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    assert not is_before_fork()
