"""The beats of other processes: read from a shared store as a component of its own.

A store that cannot be read is news, not an outage: its row says so, and what is known of workers
only from there is `unavailable`, not dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from cqrs_ddd_health.domain.evaluation import LeftOut
from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.domain.protocols import BeatsRead, HeartbeatStore
from cqrs_ddd_health.runtime.greenlets import RLock

from .beat_table import Fleet, Others
from .publisher import MAX_INTERVAL_SECONDS, Publisher
from .reader import BeatReader, Looked
from .stores.memory import MemoryHeartbeatStore
from .stores.rows import LATELY_SECONDS, columns_of

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["STORE", "SharedHeartbeats"]

STORE = "heartbeat_store"
"""The name of the store's row."""


IDLE_SECONDS = 2 * MAX_INTERVAL_SECONDS
"""A store that holds the same for so long is looked at over a new connection."""


class _Read(NamedTuple):
    """What a look at the store brought, and when."""

    looked: Looked
    held: BeatsRead
    at: float


class SharedHeartbeats:
    """Publishes the beats that `own` holds into `store`, and reads those of everybody else."""

    def __init__(
        self,
        store: HeartbeatStore,
        own: MemoryHeartbeatStore,
        clock: Clock,
        *,
        timeout_seconds: float,
        max_instances: int,
        expected: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store = store
        self._own = own
        self._monotonic = clock.monotonic
        self._timeout_seconds = timeout_seconds
        self._max_instances = max_instances
        self._expected = expected
        self._reader = BeatReader()
        self.publisher: Publisher = Publisher(store, own.timeouts, own.stored)
        self.options: CheckOptions = CheckOptions(
            critical=False,
            probes=(),
            timeout_seconds=timeout_seconds,
            interval_seconds=MAX_INTERVAL_SECONDS,
            down_interval_seconds=MAX_INTERVAL_SECONDS,
            initial_delay_seconds=0.0,
        )
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: with no thread, no connection and nothing seen."""
        begin = getattr(self._store, "begin_process", None)
        if begin is not None:
            begin()
        self.publisher.begin_process()
        self._lock = RLock()
        self._reader.forget()
        self._others = Others()
        self._looked_at: float | None = None
        self.was_read: bool = False
        """Whether the last look brought an answer."""

    def others(self, now: float) -> Others:
        """Return what is known of other processes, and how long ago that was so."""
        with self._lock:
            looked_at, others = self._looked_at, self._others
        elapsed = 0.0 if looked_at is None else max(now - looked_at, 0.0)
        return others._replace(elapsed=elapsed)

    async def look(self) -> CheckResult:
        """Read what others beat, and say how the store is. Any loop may ask: another one looks."""
        try:
            looked, dropped = await self.publisher.ask(self._read)
        except BaseException:  # cut off by its timeout too
            self.was_read = False
            self._reader.distrust()
            raise
        self.was_read = True
        details: dict[str, object] = {
            "store": type(self._store).__name__,
            "instances": len(looked.beats.ages),
            **({"doubtful": looked.doubtful} if looked.doubtful else {}),
            **({"dropped": dropped} if dropped else {}),
        }
        failure = self.publisher.failure
        if failure is not None:
            message = (
                f"it is readable, but the beats of this process cannot be published: {failure}"
            )
        elif self._others.silent:
            message = "it is readable, but nothing new comes from any process: it may be cut off"
        else:
            return CheckResult(details=details)
        return CheckResult(state="degraded", message=message, details=details)

    async def _read(self) -> tuple[Looked, int]:
        is_first = self._looked_at is None
        read = await self._read_once()
        if is_first and read.looked.doubtful:
            # Who has history knows better; who has not looks again after an interval.
            await asyncio.sleep(min(MAX_INTERVAL_SECONDS, self._timeout_seconds) / 2)
            read = await self._read_once()
        return self._keep(*await self._doubted(read))

    async def _doubted(self, read: _Read) -> tuple[_Read, frozenset[str]]:
        """Return which workers may only seem dead too, after a look at what is at the other end."""
        reader, suspects = self._reader, self._reader.suspects()
        reconnect = getattr(self._store, "reconnect", None)
        if reconnect is not None and (suspects or reader.unchanged_seconds > IDLE_SECONDS):
            await reconnect()  # others may have gone on to another server
            read = await self._read_once()
            suspects = reader.suspects()
        if not suspects and not reader.is_still:
            return read, suspects
        behind_seconds = getattr(self._store, "behind_seconds", None)
        return read, reader.silent(None if behind_seconds is None else await behind_seconds())

    async def _read_once(self) -> _Read:
        began = self._monotonic()
        read = await self._store.read()
        now = self._monotonic()
        with self._lock:
            looked = self._reader.take(read, began, now, self._own.token)
        return _Read(looked, read, now)

    def _keep(self, read: _Read, silent: frozenset[str]) -> tuple[Looked, int]:
        looked, found = read.looked, len(read.looked.beats.ages)
        beats = looked.beats.most_wanted(self._max_instances, self._expected())
        left_out = _left_out(read.held, beats, found)
        others = Others(beats, 0.0, left_out, looked.doubted, silent)
        with self._lock:
            self._others, self._looked_at = others, read.at
        return looked, read.held.dropped + found - len(beats.ages)


def _left_out(read: BeatsRead, beats: Fleet, found: int) -> LeftOut:
    """Return of whom a limit may have left out beats: first of all is read what was published last.

    Where what was published long ago came through, all that was published since has.
    """
    if found > len(beats.ages) and all(beats.freshness()):
        return "the living"
    if read.unread:
        earliest = min(columns_of(read.beats).stamps, default=read.server_now)
        return "the dead" if read.server_now - earliest > LATELY_SECONDS else "the living"
    return "the dead" if found > len(beats.ages) else "nobody"
