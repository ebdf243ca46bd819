"""The heartbeat store of one process, and the reference of the `HeartbeatStore` protocol.

The process's own beats are written here without a lock, by any thread. Whoever else holds the
store may publish into it as into any other.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cqrs_ddd_health.domain.evaluation import Beat, is_fresh
from cqrs_ddd_health.domain.names import MAX_NAME_LENGTH, made_safe, require_name
from cqrs_ddd_health.domain.options import require_count, require_seconds
from cqrs_ddd_health.domain.protocols import BeatsRead, StoredBeat
from cqrs_ddd_health.runtime.clock import SystemClock
from cqrs_ddd_health.runtime.greenlets import RLock
from cqrs_ddd_health.runtime.readers import warn

from .rows import KEPT_SECONDS, KEPT_TIMEOUTS, PUBLISHES_PER_PRUNE

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["LastBeat", "MemoryHeartbeatStore"]

# An instance that has been silent for so many timeouts may make room for a new one.
_SILENT_TIMEOUTS = 10
# Looking for such instances costs a walk over all: whoever makes up names must not cause one each.
_BURIAL_SECONDS = 1.0


class _Said(NamedTuple):
    """A beat that said more than its name."""

    at: float
    timeout_seconds: float | None
    phase: str | None
    progress: int | None


_NO_MORE = (None, None, None)


class LastBeat:
    """The last beat of one worker of this process: a plain one by `at`, or one that said more."""

    __slots__ = ("at", "said")

    def __init__(self, said: _Said) -> None:
        self.at: float = said.at
        self.said: _Said | None = said

    def read(self) -> _Said:
        """Return what was said last."""
        said = self.said
        return _Said(self.at, None, None, None) if said is None else said


_Published: TypeAlias = "dict[tuple[str, str, str], tuple[float, StoredBeat]]"


class MemoryHeartbeatStore:
    """Beats in memory, with a clock that is this process's.

    `instance` names the process; host, pid and a start token by default. Beyond `max_workers` or
    `max_instances` a new one is refused, counted in `dropped` and logged once; long dead instances
    make room first, but never the last one of a worker: an outage must not vanish.

    Raises:
        InvalidNameError: if the instance cannot be shown safely.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 60.0,
        instance: str | None = None,
        max_workers: int = 1_000,
        max_instances: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self.timeout_seconds: float = timeout_seconds
        self.dropped: int = 0
        self.own: dict[str, LastBeat] = {}
        """Beats of this process's instance by worker."""
        self.plain: dict[str, LastBeat] = {}
        """Those of them that said no more than their names: the hot path sets their `at`."""
        self._named: dict[tuple[str, str], _Said] = {}
        self._published: _Published = {}
        self._instances: Counter[str] = Counter()
        self._max_workers = max_workers
        self._max_instances = max_instances
        self._publishes = count()
        self._given_instance = require_name(instance, "process") if instance is not None else None
        self.on_news: Callable[[], bool] = _nobody_wants_to_know
        """Told of each beat that is new, or that says more than its name. Says whether it can be
        passed on yet."""
        self._monotonic = (clock or SystemClock()).monotonic
        self._next_burial_at = self._monotonic()
        self.begin_process()

    def begin_process(self) -> None:
        """Start as a new process does, after a fork: with a token of its own and no beats."""
        self._lock = RLock()
        self.token: str = secrets.token_hex(4)
        default = f"{made_safe(socket.gethostname())}:{os.getpid()}:{self.token}"
        self.instance: str = self._given_instance or default[-MAX_NAME_LENGTH:]
        self.own.clear()
        self.plain.clear()
        self._named.clear()
        self._recount()

    @property
    def is_beating(self) -> bool:
        """Whether it holds a beat that this process made."""
        return bool(self.own or self._named)

    def beat(
        self,
        worker: str,
        instance: str | None = None,
        timeout_seconds: float | None = None,
        phase: str | None = None,
        progress: int | None = None,
    ) -> None:
        """Record a beat that is new, or that says more than its name.

        Raises as `HealthRegistry.heartbeat` does for bad arguments, and for nothing else.
        """
        worker = require_name(worker, "worker")
        if instance is not None:
            instance = require_name(instance, "worker's instance")
        said = _said(self._monotonic(), timeout_seconds, phase, progress)
        with self._lock:
            if instance is None or instance == self.instance:
                if worker in self.own or self._has_room(worker):
                    self._say(worker, said)
            elif (worker, instance) in self._named or self._has_room(worker):
                self._named[worker, instance] = said
        if not self.on_news():
            self.plain.pop(worker, None)  # so that the next beat tells of itself again

    def _say(self, worker: str, said: _Said) -> None:
        beat = self.own.setdefault(worker, LastBeat(said))
        self.plain.pop(worker, None)
        if said[1:] == _NO_MORE:
            beat.at = said.at
            beat.said = None
            self.plain[worker] = beat
        else:
            beat.said = said

    def forget(self, worker: str, instance: str | None = None) -> list[str]:
        """Remove this process's beats of a worker, of that instance or of all.

        Returns the instances whose beats there were.
        """
        with self._lock:
            removed: list[str] = []
            if instance in {None, self.instance} and self.own.pop(worker, None) is not None:
                self.plain.pop(worker, None)
                removed.append(self.instance)
            for key in list(self._named):
                if key[0] == worker and instance in {None, key[1]}:
                    del self._named[key]
                    removed.append(key[1])
            self._recount()
        return removed

    def timeouts(self) -> list[float]:
        """Return the timeouts of this process's beats."""
        now = self._monotonic()
        return [beat.timeout_seconds for beat in self._own_beats(now)]

    def stored(self, interval_seconds: float) -> list[StoredBeat]:
        """Return this process's beats as it shares them if it publishes at that interval."""
        now = self._monotonic()
        return [
            _stored(beat, now)._replace(publish_interval_seconds=interval_seconds)
            for beat in self._own_beats(now)
        ]

    def beats(self, now: float) -> list[Beat]:
        """Return all beats as they are at `now`."""
        published = self._published.copy().values()
        return [*self._own_beats(now), *(_view(stored, now - at) for at, stored in published)]

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        """Put these beats in place of what is held under their (worker, instance, token)."""
        now = self._monotonic()
        with self._lock:
            for beat in beats:
                key = (beat.worker, beat.instance, beat.token)
                if key in self._published or self._has_room(beat.worker):
                    self._published[key] = now, beat._replace(stamp=now)
            if next(self._publishes) % PUBLISHES_PER_PRUNE == 0:
                self._prune(now)

    async def read(self) -> BeatsRead:
        """Return every beat that is held: the process's own as if it had just published them."""
        now = self._monotonic()
        own = [_stored(beat, now) for beat in self._own_beats(now)]
        published = [stored for _, stored in self._published.copy().values()]
        return BeatsRead(now, [*own, *published])

    async def retire(self, worker: str, instance: str, token: str) -> None:
        """Remove that one beat; do nothing if it is not held."""
        with self._lock:
            self._published.pop((worker, instance, token), None)
            if token == self.token:
                self.forget(worker, instance)
            self._recount()

    async def close(self) -> None:
        """Do nothing: memory goes with the process."""

    def _own_beats(self, now: float) -> list[Beat]:
        # A dict copies in one step of the interpreter, whatever other threads do to it.
        own = self.own.copy().items()
        return [
            *(self._own_beat(worker, self.instance, beat.read(), now) for worker, beat in own),
            *(self._own_beat(*key, said, now) for key, said in self._named.copy().items()),
        ]

    def _own_beat(self, worker: str, instance: str, said: _Said, now: float) -> Beat:
        timeout = self.timeout_seconds if said.timeout_seconds is None else said.timeout_seconds
        age = max(now - said.at, 0.0)
        return Beat(
            worker, instance, age, timeout, 0.0, said.phase, said.progress, token=self.token
        )

    def _has_room(self, worker: str) -> bool:
        """Count one more instance in, if the limits allow it."""
        if self._instances.total() >= self._max_instances:
            self._bury()
        if worker not in self._instances and len(self._instances) >= self._max_workers:
            return self._refuse(f"over {self._max_workers} workers", worker)
        if self._instances.total() >= self._max_instances:
            return self._refuse(f"over {self._max_instances} instances", worker)
        self._instances[worker] += 1
        return True

    def _recount(self) -> None:
        keys = (*self._named, *self._published)
        self._instances = Counter((*self.own, *(key[0] for key in keys)))

    def _bury(self) -> None:
        """Remove instances that have long been silent and whose worker has others."""
        now = self._monotonic()
        if now < self._next_burial_at:
            return
        self._next_burial_at = now + _BURIAL_SECONDS
        for (worker, instance), said in list(self._named.items()):
            beat = self._own_beat(worker, instance, said, now)
            long_silent = beat.age_seconds > _SILENT_TIMEOUTS * beat.timeout_seconds
            if long_silent and not is_fresh(beat) and self._instances[worker] > 1:
                self._instances[worker] -= 1
                del self._named[worker, instance]

    def _prune(self, now: float) -> None:
        """Remove what was published by processes that are long gone, but the last of a worker."""
        last: dict[str, tuple[float, tuple[str, str, str]]] = {}
        for key, (at, _) in self._published.items():
            last[key[0]] = max((at, key), last.get(key[0], (at, key)))
        for key, (at, beat) in list(self._published.items()):
            kept = KEPT_SECONDS + KEPT_TIMEOUTS * beat.timeout_seconds
            if now - at > kept and (at, key) != last[beat.worker]:
                del self._published[key]
        self._recount()

    def _refuse(self, why: str, worker: str) -> bool:
        self.dropped += 1
        if self.dropped == 1:
            warn("beats are dropped, %s: the first is of %r", why, worker)
        return False


def _said(
    at: float, timeout_seconds: float | None, phase: str | None, progress: int | None
) -> _Said:
    if phase is not None:
        phase = require_name(phase, "worker's phase")
    if timeout_seconds is not None:
        timeout_seconds = require_seconds("timeout_seconds", timeout_seconds)
    if progress is not None:
        progress = require_count("progress", progress, 0)
    return _Said(at, timeout_seconds, phase, progress)


def _nobody_wants_to_know() -> bool:
    """Beats are not shared."""
    return True


def _stored(beat: Beat, now: float) -> StoredBeat:
    return StoredBeat(
        worker=beat.worker,
        instance=beat.instance,
        token=beat.token,
        publish_number=0,
        age_seconds=beat.age_seconds,
        timeout_seconds=beat.timeout_seconds,
        publish_interval_seconds=beat.publish_interval_seconds,
        phase=beat.phase,
        progress=beat.progress,
        stamp=now,
    )


def _view(stored: StoredBeat, elapsed: float) -> Beat:
    return Beat(
        stored.worker,
        stored.instance,
        stored.age_seconds + max(elapsed, 0.0),
        stored.timeout_seconds,
        stored.publish_interval_seconds,
        stored.phase,
        stored.progress,
        local=False,
        token=stored.token,
    )
