"""Clients that the registry has connected: over many loops, and over a fork, with real servers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import SharedServer, shared_servers

DRIVERS = {"postgresql": "asyncpg", "redis": "", "nats": "", "rabbitmq": ""}

PRELUDE = """
import asyncio, gc, os, sys
from cqrs_ddd_health import HealthRegistry, HealthSettings

settings = {"checks": {"own": {"url": sys.argv[1], "timeout_seconds": 5.0}}}
registry = HealthRegistry(settings=HealthSettings.model_validate(settings))
registry.register_from_settings()

async def report():
    report = await registry.report()
    assert report.status == "healthy", report
"""

MANY_LOOPS = """
def count():
    return len(os.listdir("/proc/self/fd"))

asyncio.run(report())
before = count()
for _ in range(40):
    asyncio.run(report())
gc.collect()
assert count() <= before + 2, (before, count())
"""

FORK = """
async def main():
    await report()
    child = os.fork()
    if not child:
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(3):
        await report()
    await registry.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("server", shared_servers(*DRIVERS), ids=lambda server: server.name)
@pytest.mark.parametrize("program", [MANY_LOOPS, FORK], ids=["many loops", "fork"])
def test_what_is_connected_is_kept_for_its_owner_and_no_longer(
    server: SharedServer, program: str
) -> None:
    driver = DRIVERS[server.name]
    url = server.url_for(driver) if driver else server.url
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
