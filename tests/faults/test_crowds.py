"""Ten thousand who ask at once, and ten thousand who hang up: rows 18 and 19."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from cqrs_ddd_health import HealthRegistry
from tests.asking import NAME
from tests.faults.crowd import CLIENTS, allow_connections, answers, connected, held, serve
from tests.faults.figures import SLACK, Record, p99
from tests.service import Service

DEADLINE_SECONDS = 0.8
EXCESS_SECONDS = 0.250


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    allow_connections()
    with serve(tmp_path_factory.mktemp("crowd")) as service:
        yield service


async def test_ten_thousand_probes_at_once_are_one_flight_and_all_answered(
    server: Service, record: Record
) -> None:
    """Row 18. Over sockets, with a dependency that hangs; the control waits without the library.

    Red when `Answers.made` makes an answer for everyone who asks: `if True:`.
    """
    process = psutil.Process(server.process.pid)
    control, _ = await answers(server.port, "/control")
    before = process.memory_info().rss
    waits, first_lines = await answers(server.port, "/health/ready")
    growth = process.memory_info().rss - before
    flights = held(server).flights
    record(18, "10,000 probes, one dependency hangs: flights", flights, "flights")
    excess = p99(waits) - max(p99(control), DEADLINE_SECONDS)
    record(18, "10,000 probes, one dependency hangs: p99", p99(waits), "s")
    record(18, "10,000 probes: p99 over deadline and control", excess * 1e3, "ms")
    record(18, "10,000 probes, no library: p99 (control)", p99(control), "s")
    record(18, "10,000 probes: growth of the server's RSS over control", growth / 2**20, "MiB")
    assert len(waits) == CLIENTS
    assert first_lines == {b"HTTP/1.1 503 Service Unavailable"}
    assert flights == 1
    assert excess < SLACK * EXCESS_SECONDS


async def test_ten_thousand_clients_that_hang_up_leave_nothing_behind(
    server: Service, record: Record
) -> None:
    """Row 19. The answer is made for nobody, and the flight of before goes on.

    Red when `Answers._make` keeps those who wait: `here.waiting[key]` for `.pop(key)`.
    """
    await asyncio.sleep(1.1)  # answers of before are too old now
    before = held(server)
    clients = await connected(server.port)
    for client in clients:
        client.ask("/health/ready")
    await asyncio.sleep(0.2)
    for client in clients:
        client.hang_up()
    await asyncio.sleep(2 * DEADLINE_SECONDS)
    after = held(server)
    # The first look may be answered in the very turn of the loop in which all tasks end.
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while after.tasks > before.tasks or after.futures > before.futures:
                await asyncio.sleep(0.1)
                after = held(server)
    left = max(after.futures - before.futures, 0)
    record(19, "10,000 clients that hung up: futures left behind", left, "futures")
    assert (left, max(after.tasks - before.tasks, 0)) == (0, 0)
    assert after.flights == before.flights
    assert server.get("/health/ready").code == 503
    assert server.get("/health/live").code == 200


async def test_askers_that_are_cancelled_end_no_flight_and_leave_no_callback(
    record: Record,
) -> None:
    """Row 19. The first of them started the flight, and is cancelled as well.

    Red when `Runner._leave` does nothing.
    """
    release = asyncio.Event()
    starts = 0

    async def gated() -> bool:
        nonlocal starts
        starts += 1
        await release.wait()
        return True

    registry = HealthRegistry()
    registry.register(NAME, gated, timeout_seconds=60)
    first = asyncio.create_task(registry.report())
    await asyncio.sleep(0.01)
    askers = [first, *(asyncio.create_task(registry.report()) for _ in range(CLIENTS - 1))]
    last = asyncio.create_task(registry.report())
    await asyncio.sleep(0.01)
    assert sum(asker.cancel() for asker in askers) == CLIENTS
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    del outcomes, askers, first
    waiting = callbacks()
    record(19, "10,000 askers cancelled: who is still waiting", waiting, "askers")
    assert waiting == 1  # the one who was not cancelled
    release.set()
    report = await last
    assert (report.status, starts) == ("healthy", 1)
    assert callbacks() == 0


def callbacks() -> int:
    """How many askers any flight still has to tell."""
    from cqrs_ddd_health.engine.single_flight import Flight

    gc.collect()
    return sum(len(found.waiting) for found in gc.get_objects() if isinstance(found, Flight))
