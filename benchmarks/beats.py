"""`heartbeat()` against the least that it could be: a dict that remembers when."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable
from functools import partial

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url

from .measure import Result, at_most, compared, taking_turns

__all__ = ["measure"]

SUBJECT = "heartbeat"
BEATS_IN_A_TURN = 50_000

_TARGET = at_most(2.5)


def measure(rounds: int) -> Iterable[Result]:
    """Compare one worker's beats."""
    yield _compared("a worker's beat", HealthRegistry(), rounds)
    with tempfile.TemporaryDirectory() as directory:
        store = store_from_url(f"sqlite+aiosqlite:///{directory}/beats.sqlite3", "default")
        registry = HealthRegistry(heartbeat_store=store)
        yield _compared("a worker's beat, shared through SQLite", registry, rounds)
        registry.retire("worker")
        asyncio.run(registry.aclose())


def _compared(what: str, registry: HealthRegistry, rounds: int) -> Result:
    ours = partial(_ours, registry)
    mine, other = taking_turns(ours, _theirs, rounds=rounds, calls=BEATS_IN_A_TURN)
    return compared(SUBJECT, what, mine, other, _TARGET)


_dict: dict[str, float] = {}


def _ours(registry: HealthRegistry, calls: int) -> float:
    name = "worker"
    began = time.perf_counter()
    for _ in range(calls):
        registry.heartbeat(name)
    return time.perf_counter() - began


def _theirs(calls: int) -> float:
    d = _dict
    name = "worker"
    began = time.perf_counter()
    for _ in range(calls):
        d[name] = time.monotonic()
    return time.perf_counter() - began
