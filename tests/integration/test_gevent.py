"""A process that gevent has patched: what is asked there, who beats, and on whose hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import OwnRedis
from tests.service import bare_environment

PATCHED = """
from gevent import monkey; monkey.patch_all()
import asyncio, http.client, time
import gevent
from redis import Redis
from cqrs_ddd_health import BlockingCallError, HealthRegistry, HealthServer

hub, hubs = gevent.get_hub(), set()
client = Redis.from_url(URL)  # with connections that belong to this hub
registry = HealthRegistry(own_loop=True)


def check():
    hubs.add(gevent.get_hub())
    return client.ping()


async def async_check():
    await asyncio.sleep(0.001)
    return True


async def work():
    await asyncio.sleep(0.001)


def together(call, times):
    greenlets = [gevent.spawn(call) for _ in range(times)]
    gevent.joinall(greenlets, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


client.ping()
registry.register("sync", check)
registry.register("async", async_check)
registry.add_listener(lambda _: hubs.add(gevent.get_hub()))
"""
PROGRAMS = {
    "reports": """
def ask():
    return {registry.report_sync(deadline_seconds=10).status for _ in range(20)}


assert together(ask, 10) == [{"healthy"}] * 10
assert hubs == {hub}, hubs
""",
    "a report with nothing else to do": """
for _ in range(3):
    assert registry.report_sync().status == "healthy"
""",
    "other greenlets go on while one waits": """
registry.register("slow", lambda: gevent.sleep(0.2) or True)
turns, waiting = 0, gevent.spawn(registry.report_sync)
while not waiting.dead:
    gevent.sleep(0.001)
    turns += 1
assert waiting.value.status == "healthy" and turns > 10, turns
""",
    "a deadline": """
registry.register("hangs", lambda: gevent.sleep(60), timeout_seconds=60)
report = registry.report_sync(deadline_seconds=0.05)
assert report.component("hangs").failure.kind == "pending"
""",
    "loops of the application": """
asyncio.run(work())
registry.heartbeat("worker")
assert registry.report_sync().status == "healthy"
for _ in range(5):
    asyncio.run(work())
    assert registry.report_sync().status == "healthy"


async def main():
    for _ in range(50):
        await asyncio.sleep(0.002)
    assert (await registry.report()).status == "healthy"
    try:
        registry.report_sync()
    except BlockingCallError:
        return "said"


running = gevent.spawn(asyncio.run, main())
gevent.sleep(0.02)
assert registry.report_sync().status == "healthy"
running.join()
assert running.value == "said", running.value
""",
    "a server and a store": """
def status(path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", path)
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def published():
    return registry._engine.shared.publisher._number


registry.heartbeat("worker")
with HealthServer(registry, port=0) as server:
    assert together(lambda: status("/health/ready"), 20) == [200] * 20
    before = published()
    registry.heartbeat("worker", phase="busy")
    while published() <= before:
        gevent.sleep(0.01)
    asyncio.run(work())
    # A greenlet that keeps the thread to itself keeps it from the application, not from a probe.
    asking = gevent.get_hub().threadpool.spawn(status, "/health/live")
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    assert asking.get() == 200
assert registry.report_sync().component("heartbeat_store").state == "up"
registry.retire("worker")
asyncio.run(registry.aclose())
""",
    "a fork": """
import os
registry.heartbeat("worker")
parent = registry.report_sync().service.instance
child = os.fork()
if child == 0:
    registry.heartbeat("worker")
    report = registry.report_sync(deadline_seconds=10)
    assert report.status == "healthy" and report.service.instance != parent
    asyncio.run(work())
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert registry.report_sync().status == "healthy"
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_under_gevent(program: str, own_redis: OwnRedis, tmp_path: Path) -> None:
    source = PATCHED.replace("URL", repr(own_redis.url)) + PROGRAMS[program]
    environment = bare_environment(
        tmp_path,
        CQRS_HEALTH_HEARTBEAT_STORE_URL=own_redis.url,
        CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS="5",
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
