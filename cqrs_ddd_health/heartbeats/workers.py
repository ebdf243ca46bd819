"""What a report says of workers: a row for each, and a record for each instance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import compress, islice
from operator import not_
from typing import NamedTuple

from cqrs_ddd_health.domain.evaluation import (
    Beat,
    CheckState,
    Outcome,
    Seen,
    next_state,
    worker_outcome,
)
from cqrs_ddd_health.domain.models import ComponentState, ComponentStatus, HeartbeatRecord, Probe
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.domain.options import (
    CheckOptions,
    require_bool,
    require_count,
    require_probe,
    require_seconds,
    require_several,
)
from cqrs_ddd_health.domain.transitions import Transition, transition
from cqrs_ddd_health.runtime.greenlets import RLock

from .beat_table import FleetNow, Others, Roster

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


_NOBODY = Others()

_UNEXPECTED = _Expectation(
    1, None, critical=True, missing_at=0.0, instances=None, stall_seconds=None
)


def _probes(expected: _Expectation, *, is_here: bool) -> tuple[Probe, ...]:
    """Return the probes that a worker gates: what beats here gates ready if nothing was said."""
    if expected.probes is not None:
        return expected.probes
    return ("ready",) if is_here else ()


class _Moment(NamedTuple):
    """All that is known when workers are judged."""

    beats: FleetNow
    now: float
    at: datetime
    unseen: bool
    """Whether what other processes do is not known now."""
    others: Others

    def state(self, place: int) -> ComponentState:
        """Return how one instance is."""
        fleet, is_fresh = self.beats.fleet, self.beats.fresh[place]
        is_unknown = self.unseen or (fleet.workers[place] in self.others.silent and not is_fresh)
        if is_unknown and not fleet.local[place]:
            return "degraded"
        return "up" if is_fresh else "down"

    def is_silent(self, worker: str) -> bool:
        """Whether nothing is known of a worker; while some are silent, of one never seen too."""
        never_seen = worker not in self.beats.roster.places
        return worker in self.others.silent or (never_seen and bool(self.others.silent))

    def badness(self, place: int) -> tuple[bool, float]:
        """Return what the worst has most of."""
        return not self.beats.fresh[place], self.beats.fleet.ages[place]


class WorkersView(NamedTuple):
    """The workers at one moment."""

    rows: tuple[ComponentStatus, ...]
    records: tuple[HeartbeatRecord, ...]
    omitted: int
    """How many beats have no record."""
    omitted_workers: int
    """How many workers have no row."""
    places: Mapping[str, Sequence[int]]
    """Where the beats of each worker are that has a row."""
    moment: _Moment


class Workers:
    """Judges beats, and remembers of each worker since when its verdict has been what it is."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        max_records: int,
        max_workers: int,
        tell: Callable[[Transition, Context], None],
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._max_records = max_records
        self._max_workers = max_workers
        self._tell = tell
        self._states: dict[str, CheckState] = {}
        self._expected: dict[str, _Expectation] = {}
        self._progress: dict[tuple[str, str, str], tuple[int | None, float]] = {}
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child; what is expected stays expected."""
        self._lock = RLock()
        self._states.clear()
        self._progress.clear()
        self._roster = Roster()

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
        worker = require_name(worker, "worker")
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

    def gating(self, probe: Probe, own: Iterable[Beat]) -> AbstractSet[str]:
        """Return the workers that gate that probe; `own` are the beats of this process."""
        here = {beat.worker for beat in own if beat.local}
        with self._lock:
            expected = self._expected.copy()
        said = {**dict.fromkeys(here, _UNEXPECTED), **expected}
        return {
            worker
            for worker, one in said.items()
            if one.critical and probe in _probes(one, is_here=worker in here)
        }

    def view(
        self,
        own: Sequence[Beat],
        now: float,
        at: datetime,
        *,
        others: Others = _NOBODY,
        unseen: bool = False,
        only: AbstractSet[str] | None = None,
    ) -> WorkersView:
        """Return what is to be said of workers: of all, or `only` of some.

        Of all are those that are expected and those of this process, and of the others no more
        than `max_workers`, the worst first. `unseen` says that the store was not readable.
        """
        roster, fleet = self._roster, others.beats
        if only is not None:
            own = [beat for beat in own if beat.worker in only]
            roster, fleet = Roster(), fleet.of(only)
        beats = FleetNow.of(fleet, others.elapsed, own, roster)
        moment = _Moment(beats, now, at, unseen, others)
        with self._lock:
            expected = [worker for worker in self._expected if only is None or worker in only]
            places = {**dict.fromkeys(expected, ()), **beats.roster.places}
            shown = places if only is not None else self._chosen(places, beats)
            if only is None:
                self._roster = beats.roster
                self._forget_all_but(shown)
            rows = tuple(self._row(worker, moment) for worker in shown)
        records = self._records(shown, moment, are_all=len(shown) == len(places))
        seen = sum(record.last_seen is not None for record in records)
        return WorkersView(
            rows, records, len(beats.fresh) - seen, len(places) - len(shown), shown, moment
        )

    def _chosen(
        self, places: Mapping[str, Sequence[int]], beats: FleetNow
    ) -> Mapping[str, Sequence[int]]:
        """Return those workers that have a row.

        Whoever can write to the store can make up names. Of those that are equally bad the same
        are shown as before: each name that is shown once may be a label somewhere for ever.
        """
        always = self._expected.keys() | beats.here.keys()
        others = [worker for worker in places if worker not in always]
        if len(others) <= self._max_workers:
            return places
        living = beats.living()
        down = [worker for worker in others if worker not in living]
        worst = nlargest(self._max_workers, down, key=beats.youngest)
        up = living - always
        candidates = dict.fromkeys((*beats.roster.repeated, *self._states, *others))
        room = self._max_workers - len(worst)
        chosen = {*always, *worst, *islice(filter(up.__contains__, candidates), room)}
        return {worker: theirs for worker, theirs in places.items() if worker in chosen}

    def _forget_all_but(self, workers: Mapping[str, object]) -> None:
        for gone in self._states.keys() - workers.keys():
            del self._states[gone]
        for key in [key for key in self._progress if key[0] not in workers]:
            del self._progress[key]

    def _records(
        self, places: Mapping[str, Sequence[int]], moment: _Moment, *, are_all: bool
    ) -> tuple[HeartbeatRecord, ...]:
        """Return a record of each expected worker that was never seen, and of beats."""
        found: Sequence[int] = range(len(moment.beats.fresh))
        if not are_all:
            found = sorted(place for theirs in places.values() for place in theirs)
        never = (self._never_seen(worker) for worker, theirs in places.items() if not theirs)
        shown = self._shown(places, found, moment)
        return (*never, *(_record(place, moment) for place in shown))

    def _row(self, worker: str, moment: _Moment) -> ComponentStatus:
        expected, at = self._expected.get(worker, _UNEXPECTED), moment.at
        stalled = self._stalled(worker, expected.stall_seconds, moment)
        seen = moment.beats.seen(worker, stalled)
        outcome = worker_outcome(
            seen,
            expected.min_instances,
            in_grace=moment.now < expected.missing_at,
            instances=expected.instances,
            unseen=moment.unseen,
            left_out=moment.others.left_out_of(worker),
            silent=moment.is_silent(worker),
        )
        state = self._advance(worker, _dated(outcome, seen, at), at)
        return ComponentStatus(
            name=worker,
            kind="worker",
            state=state.state,
            critical=expected.critical,
            probes=_probes(expected, is_here=worker in moment.beats.here),
            since=state.since,
            checked_at=at,
            failure=state.failure,
            consecutive_failures=state.failures,
            details=outcome.details,
        )

    def _stalled(self, worker: str, stall_seconds: float | None, moment: _Moment) -> Sequence[int]:
        """Return those that are busy and whose count has not grown for so long."""
        if stall_seconds is None:
            return ()
        fleet, now = moment.beats.fleet, moment.now
        stalled: list[int] = []
        known: set[tuple[str, str, str]] = set()
        for place in moment.beats.roster.places.get(worker, ()):
            known.add(key := (worker, fleet.instances[place], fleet.tokens[place]))
            if fleet.phases[place] != BUSY:
                self._progress.pop(key, None)
                continue
            last = self._progress.get(key)
            if last is None or last[0] != fleet.progress[place]:
                self._progress[key] = fleet.progress[place], now
            elif now - last[1] >= stall_seconds:
                stalled.append(place)
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
        self, places: Mapping[str, Sequence[int]], found: Sequence[int], moment: _Moment
    ) -> Sequence[int]:
        """Return the youngest beat of each worker and the worst of all, the worst first."""
        fresh, age = moment.beats.fresh, moment.beats.fleet.ages.__getitem__
        if len(found) < len(fresh):
            fresh = [fresh[place] for place in found]
        shown = {min(theirs, key=age) for theirs in places.values() if theirs}
        left = self._max_records
        for wanted in (False, True):  # the stale ones, and then the fresh
            if left and wanted in fresh:
                these = compress(found, fresh if wanted else map(not_, fresh))
                worst = nlargest(left + len(shown), these, key=age)  # some are shown already
                more = [place for place in worst if place not in shown][:left]
                shown.update(more)
                left -= len(more)
        return sorted(sorted(shown), key=moment.badness, reverse=True)

    def _never_seen(self, worker: str) -> HeartbeatRecord:
        return HeartbeatRecord(worker=worker, state="down", timeout_seconds=self._timeout_seconds)


def _dated(outcome: Outcome, seen: Seen, at: datetime) -> Outcome:
    """Say that it is stale since its youngest beat grew too old, not since somebody looked."""
    late = seen.late
    if outcome.state != "down" or outcome.kind != "stale" or late is None:
        return outcome
    overdue = late.age_seconds - late.timeout_seconds - late.publish_interval_seconds
    return outcome._replace(failing_since=at - timedelta(seconds=max(overdue, 0.0)))


def _record(place: int, moment: _Moment) -> HeartbeatRecord:
    fleet = moment.beats.fleet
    age = fleet.ages[place]
    return HeartbeatRecord(
        worker=fleet.workers[place],
        instance=fleet.instances[place],
        state=moment.state(place),
        last_seen=moment.at - timedelta(seconds=age),
        age_seconds=age,
        timeout_seconds=fleet.timeouts[place],
        publish_interval_seconds=fleet.intervals[place],
        phase=fleet.phases[place],
        progress=fleet.progress[place],
    )


def instances_by_state(view: WorkersView) -> dict[str, dict[ComponentState, int]]:
    """Return by worker how many of its instances are in which state; each state is there."""
    return {worker: _counted(places, view.moment) for worker, places in view.places.items()}


def _counted(places: Iterable[int], moment: _Moment) -> dict[ComponentState, int]:
    counts: dict[ComponentState, int] = {"up": 0, "degraded": 0, "down": 0}
    for place in places:
        counts[moment.state(place)] += 1
    return counts
