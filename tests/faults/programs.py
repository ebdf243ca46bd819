"""Programs that fork and that run several loops, each in a process of its own: see row 21.

`python -m tests.faults.programs NAME` prints that it went well, and its exit code says so too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine

from cqrs_ddd_health import HealthRegistry, RedisHealthCheck
from tests.clients import async_redis, sync_redis

PORT = int(os.environ["REDIS_PORT"])


async def yes() -> bool:
    await asyncio.sleep(0.001)
    return True


def simple(*, own_loop: bool = True) -> HealthRegistry:
    """A registry whose checks belong to no loop."""
    registry = HealthRegistry(own_loop=own_loop)
    registry.register("async", yes)
    registry.register("sync", lambda: True)
    registry.register("redis", RedisHealthCheck(sync_redis(PORT)))
    registry.heartbeat("worker")
    return registry


def healthy(registry: HealthRegistry) -> None:
    report = registry.report_sync()
    assert report.status == "healthy", report
    assert asyncio.run(registry.check_all()) == dict.fromkeys(
        [row.name for row in report.components], "up"
    )


def in_child(check: Callable[[], None]) -> None:
    """Run it in a fork of this process, and have it end well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()  # this process does not come to the end where Python would
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def fork_after_import() -> None:
    in_child(lambda: healthy(simple()))


def fork_after_use() -> None:
    registry = simple()
    healthy(registry)
    assert {row.name for row in registry.report_sync().components} >= {"worker"}

    def child() -> None:
        healthy(registry)
        # The parent's worker beats in the parent.
        assert "worker" not in {row.name for row in registry.report_sync().components}
        registry.heartbeat("worker of the child")
        healthy(registry)

    in_child(child)
    in_child(child)
    healthy(registry)


def fork_while_a_check_hangs() -> None:
    registry = simple()
    parent = os.getpid()
    forever = threading.Event()

    def hangs_in_the_parent() -> bool:
        return os.getpid() != parent or forever.wait()

    registry.register("hangs", hangs_in_the_parent, timeout_seconds=0.1)
    assert registry.report_sync().status == "unhealthy"
    assert registry.hung_checks == 1

    def child() -> None:
        assert registry.hung_checks == 0
        healthy(registry)

    in_child(child)
    assert registry.hung_checks == 1


def fork_with_locks_held() -> None:
    """Other threads are in the midst of everything that takes a lock of ours.

    redis-py's pool has a lock of its own, and a fork that meets it leaves the child a client
    that hangs: what forks so makes its clients in the child.
    """
    registry = simple()
    registry.unregister("redis")
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            registry.report_sync()
            registry.register("async", yes)
            registry.heartbeat("worker")

    threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()

    def child() -> None:
        registry.register("redis", RedisHealthCheck(sync_redis(PORT)))
        healthy(registry)

    for _ in range(20):
        time.sleep(0.005)
        in_child(child)
    stop.set()
    for thread in threads:
        thread.join()


async def ask_often(registry: HealthRegistry, times: int = 20) -> None:
    for _ in range(times):
        assert set((await registry.check_all()).values()) == {"up"}


def loops_one_after_the_other() -> None:
    registry = simple()
    for _ in range(5):
        asyncio.run(ask_often(registry))
    healthy(registry)


def loops_at_once() -> None:
    """A client of the first loop is asked there, whoever wants to know."""

    async def first(registry: HealthRegistry, others: list[threading.Thread]) -> None:
        async with async_redis(PORT) as client:
            registry.register("of the first loop", RedisHealthCheck(client))
            await ask_often(registry, 1)
            for thread in others:
                thread.start()
            while any(thread.is_alive() for thread in others):
                await ask_often(registry, 1)

    registry = simple(own_loop=False)
    failed: list[BaseException] = []

    def other() -> None:
        try:
            asyncio.run(ask_often(registry, 50))
            assert registry.report_sync().status == "healthy"
        except BaseException as error:
            failed.append(error)

    asyncio.run(first(registry, [threading.Thread(target=other) for _ in range(3)]))
    assert failed == []


def loop_closed_in_mid_flight() -> None:
    """The loop that a flight was on is gone; whoever asks next gets an answer."""
    registry = simple(own_loop=False)
    slow = True

    async def sometimes_slow() -> bool:
        await asyncio.sleep(30 if slow else 0)
        return True

    registry.register("slow", sometimes_slow, timeout_seconds=60)

    async def leave() -> None:
        await registry.report(deadline_seconds=0.05)

    asyncio.run(leave())
    slow = False
    asyncio.run(ask_often(registry, 1))


def uvloop_alone() -> None:
    import uvloop

    registry = simple()
    for _ in range(3):
        uvloop.run(ask_often(registry))
    healthy(registry)


def uvloop_after_asyncio() -> None:
    import uvloop

    registry = simple()
    asyncio.run(ask_often(registry))
    asked: Coroutine[None, None, None] = ask_often(registry)
    uvloop.run(asked)
    asyncio.run(ask_often(registry))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.stdout.write(f"{sys.argv[1]} ok\n")
