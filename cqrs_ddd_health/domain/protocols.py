"""What others may implement: checks, heartbeat stores, clocks and listeners."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from .models import CheckResult
from .transitions import Transition

__all__ = ["BeatsRead", "Clock", "HealthCheck", "HeartbeatStore", "Listener", "StoredBeat"]


@runtime_checkable
class HealthCheck(Protocol):
    """The typed way to write a check.

    `check` returns a `CheckResult` or raises; either way it ends as a row of the report. It is
    cancelled when its timeout has passed: the `timeout_seconds` attribute, if it has one and
    nothing more specific was said. It must not write anything anywhere.

    It runs on the event loop of the application, where its clients live, and waits for that to be
    known. One that opens all that it uses anew each time may say `loop_bound = False`, as a class
    attribute, and then runs on any loop.
    """

    async def check(self) -> CheckResult: ...


class Clock(Protocol):
    """Where time comes from. The wall clock is for showing, every verdict is monotonic."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        ...


class Listener(Protocol):
    """Told of every transition, in order, on a thread of ours: it may block and may raise."""

    def __call__(self, transition: Transition, /) -> None: ...


class StoredBeat(NamedTuple):
    """One instance's last beat as processes share it.

    A process publishes how old its beat is, never when it was: clocks of processes disagree.
    `publish_number` changes with every publish, so that a reader sees that the publisher lives
    even while the beat itself grows old. `token` is new at each start of a process: it tells two
    processes with one instance name apart.
    """

    worker: str
    instance: str
    token: str
    publish_number: int
    age_seconds: float
    timeout_seconds: float
    publish_interval_seconds: float = 0.0
    phase: str | None = None
    progress: int | None = None
    stamp: float = 0.0
    """The store's own clock when it took the beat, in seconds; what is published is ignored."""


class BeatsRead(NamedTuple):
    """What a store holds at one moment of its own clock, in seconds."""

    server_now: float
    beats: Sequence[StoredBeat]
    dropped: int = 0
    """How many rows were left out: they could not be understood, or a limit came first."""
    unread: int = 0
    """How many of these a limit left out, and not what they say. The beats of those who published
    last have to be read first: who is not among them may still live."""


class HeartbeatStore(Protocol):
    """Where processes share beats.

    Any method may raise: a store that fails is a row of the report, and nobody is called dead
    because of it. `cqrs_ddd_health.testing.HeartbeatStoreConformance` is the suite that an
    implementation must pass.

    A store may have two methods more, which are asked when nothing new comes from any process:
    `async def reconnect(self) -> None` has the next call use a new connection, and
    `async def behind_seconds(self) -> float | None` returns how long ago what answers last heard of
    what is published: 0 where it is published itself, infinity for a copy that is cut off, None if
    that cannot be told. Without the second a worker is not called dead while all are silent.
    """

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        """Put these beats in place of what is held under their (worker, instance, token)."""
        ...

    async def read(self) -> BeatsRead:
        """Return every beat that is held, and the store's clock at that moment."""
        ...

    async def retire(self, worker: str, instance: str, token: str) -> None:
        """Remove that one beat; do nothing if it is not held."""
        ...

    async def close(self) -> None:
        """Release what the store holds of this process; what is published stays."""
        ...
