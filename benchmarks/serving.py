"""Answers over HTTP against a bare one on the same server, those of the peers too, and with a
check that hangs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

from . import apps
from .load import request_bytes
from .measure import Result, Target, Timer, at_least, at_most, compared, judged, taking_turns
from .peers import PEERS

__all__ = ["measure"]

SUBJECT = "http"
REQUESTS_IN_A_TURN = 3_200
REQUESTS_OF_PEERS = 64  # they take many times as long
PATIENCE_SECONDS = 1.0
IMPATIENT_CLIENTS = 1_000
CLIENTS_AT_A_TIME = 100

_TARGET = at_least(0.9)
_PATHS = (
    ("/health/live", "/health/live"),
    ("/health/ready", f"/health/ready with {apps.CHECKS} checks"),
)


def measure(rounds: int) -> Iterable[Result]:
    """Compare the two paths that a cluster asks all the time, and try the one check that hangs."""
    for path, what in _PATHS:
        yield _compare("health", path, what, "bare", rounds=rounds, target=_TARGET)
        yield _compare("health", path, f"{what}, the same headers", "dressed", rounds=rounds)
    for path, what in _PATHS:
        yield _compare(
            "router", path, f"FastAPI router: {what}", "route", rounds=rounds, target=_TARGET
        )
        same = f"FastAPI router: {what}, the same headers"
        yield _compare("router", path, same, "dressed route", rounds=rounds)
        alone = f"FastAPI router: {what}, against a route without a router"
        yield _compare("router", path, alone, "route of app", rounds=rounds)
    for peer in PEERS.values():
        what = f"peer: {peer.name} {version(peer.name)} with {apps.CHECKS} checks"
        yield _compare(
            peer.name, peer.path, what, "bare", rounds=rounds, requests=REQUESTS_OF_PEERS
        )
    yield from _with_a_check_that_hangs()


def _compare(
    kind: str,
    path: str,
    what: str,
    other_kind: str,
    *,
    rounds: int,
    target: Target | None = None,
    requests: int = REQUESTS_IN_A_TURN,
) -> Result:
    """Compare one application with one that sends as many bytes that it has ready."""
    with ExitStack() as stack:
        port = stack.enter_context(_serving(kind))
        size = len(_get(port, path))
        other_port = stack.enter_context(_serving(other_kind, size))
        ones, others = taking_turns(
            stack.enter_context(_loading(port, path)),
            stack.enter_context(_loading(other_port, path)),
            rounds=rounds,
            calls=requests,
        )
    return compared(SUBJECT, what, ones, others, target, is_throughput=True)


def _with_a_check_that_hangs() -> Iterable[Result]:
    with _serving("hanging") as port:
        waits = asyncio.run(_impatient_clients(port))
        state = json.loads(_get(port, apps.STATE_PATH))
    answered = [wait for wait in waits if wait is not None]
    what = f"{IMPATIENT_CLIENTS:,} clients of a check that hangs"
    longest = f"the longest wait was {max(answered, default=0.0) * 1e3:.0f} ms"
    counts = judged(
        SUBJECT,
        f"{what}: answered within {PATIENCE_SECONDS:g} s",
        [len(answered)],
        "",
        at_least(IMPATIENT_CLIENTS),
        note=longest,
    )
    flights = judged(SUBJECT, f"{what}: flights", [state["begun"]], "", at_most(1))
    return (counts, flights)


async def _impatient_clients(port: int) -> list[float | None]:
    """Return how long each client waited, or `None` for one that gave up."""
    turn = asyncio.Semaphore(CLIENTS_AT_A_TIME)
    return await asyncio.gather(*(_client(port, turn) for _ in range(IMPATIENT_CLIENTS)))


async def _client(port: int, turn: asyncio.Semaphore) -> float | None:
    async with turn:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request_bytes("/health/ready"))
                status = await reader.readline()
        except TimeoutError:
            return None
        writer.close()
        assert status.startswith(b"HTTP/1.1 503"), status
        return time.perf_counter() - began


@contextmanager
def _serving(kind: str, size: int = 2) -> Generator[int]:
    """Have a server of that kind in a process of its own, and its port."""
    with _process("benchmarks.apps", kind, str(size)) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield port


@contextmanager
def _loading(port: int, path: str) -> Generator[Timer]:
    """Have a process of clients, and the timer of their requests."""
    with _process("benchmarks.load", str(port), path) as clients:
        yield lambda calls: _seconds_of(clients, calls)


def _seconds_of(clients: subprocess.Popen[str], requests: int) -> float:
    assert clients.stdin is not None
    assert clients.stdout is not None
    clients.stdin.write(f"{requests}\n")
    clients.stdin.flush()
    return float(clients.stdout.readline())


@contextmanager
def _process(module: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _get(port: int, path: str) -> bytes:
    """Return the body of an answer, asked for until the server listens."""
    url = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body
