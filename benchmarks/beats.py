"""`heartbeat()` against the least that it could be: a dict that remembers when."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cqrs_ddd_health import HealthRegistry

from .measure import Result, at_most, compared, taking_turns

__all__ = ["measure"]

SUBJECT = "heartbeat"
BEATS_IN_A_TURN = 50_000

_TARGET = at_most(2.5)


def measure(rounds: int) -> Iterable[Result]:
    """Compare one worker's beats."""
    mine, other = taking_turns(_ours, _theirs, rounds=rounds, calls=BEATS_IN_A_TURN)
    yield compared(SUBJECT, "a worker's beat", mine, other, _TARGET)


_registry = HealthRegistry()
_dict: dict[str, float] = {}


def _ours(calls: int) -> float:
    registry = _registry
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
