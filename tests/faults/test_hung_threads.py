"""Sync checks that never return: row 15."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from cqrs_ddd_health import HealthRegistry
from tests.asking import failure_of
from tests.faults.figures import SLACK, Record

TIMEOUT_SECONDS = 0.2
EXIT_SECONDS = 1.0
INNOCENT_SECONDS = 0.050


def threads_of_checks() -> int:
    """How many there are; listeners and the log have threads of their own while there is news."""
    return sum(thread.name == "cqrs-health" for thread in threading.enumerate())


@pytest.mark.parametrize("hung", [1, 32, 64])
async def test_the_rest_is_unaffected_by_checks_that_never_return(
    record: Record, hung: int
) -> None:
    """Row 15. Each has a thread of its own, so an innocent sync check waits for none of them.

    Red when the registry makes its `DaemonThreads` with a limit of 8.
    """
    release = threading.Event()
    registry = HealthRegistry()
    before = threads_of_checks()
    for number in range(hung):
        registry.register(f"hung {number}", release.wait, timeout_seconds=TIMEOUT_SECONDS)
    registry.register("innocent", lambda: True, timeout_seconds=TIMEOUT_SECONDS)
    waits: list[float] = []
    for turn in range(5):
        report = await registry.report()
        rows = {row.name: row for row in report.components}
        innocent = rows.pop("innocent")
        assert innocent.state == "up"
        waits.append(innocent.latency_seconds or 0.0)
        expected = "hung" if turn else "timeout"
        assert {failure_of(row)[0] for row in rows.values()} == {expected}
    assert registry.hung_checks == hung
    assert threads_of_checks() - before <= hung + 1  # none is started a second time
    record(15, f"{hung} hung threads: wait of an innocent sync check", max(waits) * 1e3, "ms")
    assert max(waits) < SLACK * INNOCENT_SECONDS
    release.set()
    async with asyncio.timeout(10):
        while registry.hung_checks:
            await asyncio.sleep(0.01)
    assert (await registry.report()).status == "healthy"


PROGRAM = """
import asyncio, sys, threading, time
from cqrs_ddd_health import HealthRegistry

registry = HealthRegistry()
for number in range(int(sys.argv[1])):
    registry.register(f"hung {number}", threading.Event().wait, timeout_seconds=0.2)
registry.register("innocent", lambda: True)
report = asyncio.run(registry.report()) if sys.argv[2] == "loop" else registry.report_sync()
print(sum(row.state == "down" for row in report.components), time.time(), flush=True)
"""


def seconds_to_exit(hung: int, how: str) -> float:
    """How long a process takes to end once its last line is done."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hung), how],
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    ended = time.time()
    down, said_at = done.stdout.split()
    assert int(down) == hung
    assert done.stderr == ""
    return ended - float(said_at)


@pytest.mark.parametrize("how", ["loop", "report_sync"])
@pytest.mark.parametrize("hung", [1, 32, 64])
def test_hung_threads_do_not_keep_the_process(record: Record, hung: int, how: str) -> None:
    """Row 15. Exit joins no thread of ours.

    Red when `DaemonThreads.submit` starts its threads with `daemon=False`.
    """
    control = seconds_to_exit(0, how)
    seconds = seconds_to_exit(hung, how)
    record(15, f"{hung} hung threads: exit, {how}", seconds, "s")
    record(15, f"no hung thread: exit, {how} (control)", control, "s")
    assert seconds - control < SLACK * EXIT_SECONDS
