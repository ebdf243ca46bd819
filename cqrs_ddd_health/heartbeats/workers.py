"""What a report says of workers: a row for each, and a record for each instance."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from cqrs_ddd_health.evaluation import (
    Beat,
    CheckState,
    Outcome,
    aged,
    fresh_and_stale,
    is_fresh,
    next_state,
    worker_outcome,
    youngest_stale,
)
from cqrs_ddd_health.models import ComponentState, ComponentStatus, HeartbeatRecord, Probe
from cqrs_ddd_health.names import require_name
from cqrs_ddd_health.options import (
    CheckOptions,
    require_bool,
    require_count,
    require_probe,
    require_seconds,
    require_several,
)
from cqrs_ddd_health.transitions import Transition, transition

__all__ = ["Workers", "WorkersView", "instances_by_state"]

BUSY = "busy"
"""The phase in which a worker is expected to make progress."""

_OPTIONS = CheckOptions()


class _Expectation(NamedTuple):
    """What `expect` said of a worker."""

    min_instances: int
    probes: tuple[Probe, ...] | None
    critical: bool
    missing_at: float
    """When, on the monotonic clock, its never having been seen is no longer for lack of time."""
    instances: int | None
    stall_seconds: float | None


_UNEXPECTED = _Expectation(
    1, None, critical=True, missing_at=0.0, instances=None, stall_seconds=None
)


class WorkersView(NamedTuple):
    """The workers at one moment."""

    rows: tuple[ComponentStatus, ...]
    records: tuple[HeartbeatRecord, ...]
    omitted: int
    beats: Mapping[str, Sequence[Beat]]
    """All beats by worker; an expected one without any is there too."""
    unseen: bool
    """Whether what other processes do is not known now."""


class Workers:
    """Judges beats, and remembers of each worker since when its verdict has been what it is."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        max_records: int,
        tell: Callable[[Transition, Context], None],
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._max_records = max_records
        self._tell = tell
        self._states: dict[str, CheckState] = {}
        self._expected: dict[str, _Expectation] = {}
        self._progress: dict[tuple[str, str, str], tuple[int | None, float]] = {}
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child; what is expected stays expected."""
        self._lock = threading.RLock()
        self._states.clear()
        self._progress.clear()

    def expect(
        self,
        worker: str,
        min_instances: int,
        probes: Iterable[Probe] | None,
        grace_seconds: float | None,
        *,
        critical: bool,
        instances: int | None,
        stall_seconds: float | None,
        now: float,
    ) -> None:
        """Have a row for that worker from now on; `HealthRegistry.expect` says what is refused."""
        require_name(worker, "worker")
        require_count("min_instances", min_instances, 1)
        require_bool("critical", critical)
        if instances is not None:
            require_count("instances", instances, min_instances)
        if stall_seconds is not None:
            require_seconds("stall_seconds", stall_seconds)
        grace = self._timeout_seconds
        if grace_seconds is not None:
            grace = require_seconds("grace_seconds", grace_seconds)
        gated: tuple[Probe, ...] | None = None
        if probes is not None:
            gated = tuple(require_probe(probe) for probe in require_several("probes", probes))
        with self._lock:
            self._expected[worker] = _Expectation(
                min_instances, gated, critical, now + grace, instances, stall_seconds
            )

    def gates(self, probe: Probe) -> bool:
        """Whether some worker was said to gate that probe, wherever it beats."""
        return any(probe in (expected.probes or ()) for expected in self._expected.values())

    @property
    def expected(self) -> Sequence[str]:
        """The workers that have a row whether they were seen or not."""
        return tuple(self._expected)

    def retire(self, worker: str) -> None:
        """Stop expecting it: a clean stop is not an outage."""
        with self._lock:
            self._expected.pop(worker, None)

    def view(
        self,
        beats: Iterable[Beat],
        now: float,
        at: datetime,
        *,
        unseen: bool = False,
        elapsed: float = 0.0,
    ) -> WorkersView:
        """Return what is to be said of all workers.

        `unseen` if the store was not readable; `elapsed` seconds ago the beats of other processes
        were as old as they say.
        """
        fresh, stale = fresh_and_stale(beats)
        if elapsed:  # the fresh ones stay so, and are made older where they are shown
            stale = [beat if beat.local else aged(beat, elapsed) for beat in stale]
        with self._lock:
            by_worker = self._by_worker(fresh, stale)
            for gone in self._states.keys() - by_worker.keys():
                del self._states[gone]
            rows = tuple(
                self._row(worker, theirs, now, at, unseen=unseen)
                for worker, theirs in by_worker.items()
            )
        beats, omitted = self._shown(by_worker, fresh, stale, elapsed)
        never = [self._never_seen(worker) for worker, theirs in by_worker.items() if not theirs]
        records = (*never, *(_record(beat, at, unseen=unseen) for beat in beats))
        return WorkersView(rows, records, omitted, by_worker, unseen)

    def _by_worker(self, *groups: Iterable[Beat]) -> dict[str, list[Beat]]:
        found: defaultdict[str, list[Beat]] = defaultdict(list)
        for worker in self._expected:
            found[worker] = []
        for beat in chain(*groups):
            found[beat.worker].append(beat)
        return found

    def _row(
        self, worker: str, beats: Sequence[Beat], now: float, at: datetime, *, unseen: bool
    ) -> ComponentStatus:
        expected = self._expected.get(worker, _UNEXPECTED)
        outcome = worker_outcome(
            beats,
            expected.min_instances,
            in_grace=now < expected.missing_at,
            instances=expected.instances,
            stalled=self._stalled(worker, beats, expected.stall_seconds, now),
            unseen=unseen,
        )
        state = self._advance(worker, _dated(outcome, beats, at), at)
        here = any(beat.local for beat in beats)
        default: tuple[Probe, ...] = ("ready",) if here else ()
        return ComponentStatus(
            name=worker,
            kind="worker",
            state=state.state,
            critical=expected.critical,
            probes=default if expected.probes is None else expected.probes,
            since=state.since,
            checked_at=at,
            failure=state.failure,
            consecutive_failures=state.failures,
            details=outcome.details,
        )

    def _stalled(
        self, worker: str, beats: Sequence[Beat], stall_seconds: float | None, now: float
    ) -> Sequence[Beat]:
        """Return those that are busy and whose count has not grown for so long."""
        if stall_seconds is None:
            return ()
        stalled: list[Beat] = []
        for beat in beats:
            key = (beat.worker, beat.instance, beat.token)
            if beat.phase != BUSY:
                self._progress.pop(key, None)
                continue
            last = self._progress.get(key)
            if last is None or last[0] != beat.progress:
                self._progress[key] = beat.progress, now
            elif now - last[1] >= stall_seconds:
                stalled.append(beat)
        known = {(beat.worker, beat.instance, beat.token) for beat in beats}
        for key in [key for key in self._progress if key[0] == worker and key not in known]:
            del self._progress[key]
        return stalled

    def _advance(self, worker: str, outcome: Outcome, at: datetime) -> CheckState:
        before = self._states.get(worker)
        # A worker fails for as long as it does, not once for everyone who looks.
        counts = before is None or before.state != "down"
        after = self._states[worker] = next_state(before, outcome, _OPTIONS, at, counts=counts)
        told = transition(worker, "worker", before, after, at)
        if told is not None:
            self._tell(told, copy_context())
        return after

    def _shown(
        self,
        by_worker: Mapping[str, Sequence[Beat]],
        fresh: Sequence[Beat],
        stale: Sequence[Beat],
        elapsed: float,
    ) -> tuple[Sequence[Beat], int]:
        """Return the youngest beat of each worker and the worst of all, and how many more."""
        youngest = {id(beat): beat for beat in map(_youngest, filter(None, by_worker.values()))}
        worst = list(_oldest(self._max_records, stale, youngest))
        worst += _oldest(self._max_records - len(worst), fresh, youngest)
        shown = [
            beat if beat.local or not is_fresh(beat) else aged(beat, elapsed)
            for beat in (*youngest.values(), *worst)
        ]
        shown.sort(key=_badness, reverse=True)
        return shown, len(fresh) + len(stale) - len(shown)

    def _never_seen(self, worker: str) -> HeartbeatRecord:
        return HeartbeatRecord(worker=worker, state="down", timeout_seconds=self._timeout_seconds)


_age: Callable[[Beat], float] = attrgetter("age_seconds")


def _youngest(beats: Iterable[Beat]) -> Beat:
    return min(beats, key=_age)


def _oldest(count: int, beats: Iterable[Beat], but: Container[int]) -> Iterable[Beat]:
    """Return the oldest of some beats, but for those whose `id` is among these."""
    return nlargest(count, (beat for beat in beats if id(beat) not in but), key=_age)


def _badness(beat: Beat) -> tuple[bool, float]:
    return not is_fresh(beat), beat.age_seconds


def _dated(outcome: Outcome, beats: Sequence[Beat], at: datetime) -> Outcome:
    """Say that it is stale since its youngest beat grew too old, not since somebody looked."""
    if outcome.state != "down" or outcome.kind != "stale":
        return outcome
    beat = youngest_stale(beats)
    overdue = beat.age_seconds - beat.timeout_seconds - beat.publish_interval_seconds
    return outcome._replace(failing_since=at - timedelta(seconds=max(overdue, 0.0)))


def _record(beat: Beat, at: datetime, *, unseen: bool) -> HeartbeatRecord:
    return HeartbeatRecord(
        worker=beat.worker,
        instance=beat.instance,
        state=_state_of(beat, unseen=unseen),
        last_seen=at - timedelta(seconds=beat.age_seconds),
        age_seconds=beat.age_seconds,
        timeout_seconds=beat.timeout_seconds,
        publish_interval_seconds=beat.publish_interval_seconds,
        phase=beat.phase,
        progress=beat.progress,
    )


def _state_of(beat: Beat, *, unseen: bool) -> ComponentState:
    if unseen and not beat.local:
        return "degraded"
    return "up" if is_fresh(beat) else "down"


def instances_by_state(view: WorkersView) -> dict[str, dict[ComponentState, int]]:
    """Return by worker how many of its instances are in which state; each state is there."""
    return {worker: _counted(beats, unseen=view.unseen) for worker, beats in view.beats.items()}


def _counted(beats: Iterable[Beat], *, unseen: bool) -> dict[ComponentState, int]:
    counts: dict[ComponentState, int] = {"up": 0, "degraded": 0, "down": 0}
    for beat in beats:
        counts[_state_of(beat, unseen=unseen)] += 1
    return counts
