"""The metrics of a registry as prometheus_client collects them. A scrape asks no check anything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias, cast

from cqrs_ddd_health.domain.contract import components_dict
from cqrs_ddd_health.domain.models import ComponentStatus, FailureKind, HeartbeatRecord, severity
from cqrs_ddd_health.domain.options import require_instance
from cqrs_ddd_health.engine.snapshot import Measurements
from cqrs_ddd_health.engine.tallies import BOUNDS, Runs
from cqrs_ddd_health.errors import DuplicateNameError
from cqrs_ddd_health.registry import HealthRegistry
from cqrs_ddd_health.runtime.greenlets import RLock

from .exposure import expose

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
except ImportError as _error:
    raise ImportError(
        "metrics need prometheus_client: pip install 'cqrs-ddd-health[prometheus]'"
    ) from _error

__all__ = ["HealthCollector", "encoded", "is_collected_by"]

_Samples: TypeAlias = "Iterable[tuple[Sequence[str], float]]"
"""The values of a metric's labels, and its own."""
_Rows: TypeAlias = "Mapping[str, ComponentStatus]"


class _Described(NamedTuple):
    """What there is to say of a metric before there are samples of it."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""


_UP = _Described(
    "cqrs_health_component_up",
    "Whether a component is up (1) or down (0); one that is degraded is up.",
    ("component",),
)
_AGE = _Described(
    "cqrs_health_heartbeat_age_seconds",
    "How old the youngest heartbeat of a worker is, at the time of the scrape.",
    ("worker",),
    "seconds",
)
_STATUS = _Described(
    "cqrs_health_status", "The overall status: 0 is healthy, 1 degraded, 2 unhealthy."
)
_READY = _Described(
    "cqrs_health_ready", "Whether it may get traffic (1) or not (0); not while it drains."
)
_STATE = _Described(
    "cqrs_health_component_state",
    "Whether a component is in that state (1) or not (0): up, degraded or down.",
    ("component", "state"),
)
_CRITICAL = _Described(
    "cqrs_health_component_critical",
    "Whether the service is unhealthy while a component is down (1) or degraded at most (0).",
    ("component",),
)
_DURATION = _Described(
    "cqrs_health_check_duration_seconds",
    "How long the runs of a check took.",
    ("component",),
    "seconds",
)
_FAILURES = _Described(
    "cqrs_health_check_failures",
    "How often a check was not up, by the kind of its failure.",
    ("component", "kind"),
)
_CHECKED = _Described(
    "cqrs_health_last_check_timestamp_seconds",
    "When the last outcome of a check was known, in seconds since 1970.",
    ("component",),
    "seconds",
)
_INSTANCES = _Described(
    "cqrs_health_worker_instances",
    "Instances of a worker by state: up, down, or degraded where nobody could look.",
    ("worker", "state"),
)
_PUBLISHES = _Described(
    "cqrs_health_heartbeats_published",
    "Whether the last publish of beats into the heartbeat store succeeded (1) or not (0).",
)
_HUNG = _Described(
    "cqrs_health_hung_checks",
    "Checks that were cut off by their timeout and have not ended yet.",
)
_DROPPED = _Described(
    "cqrs_health_dropped",
    "What a limit left out: beats, transitions, and of each scrape components and workers.",
    ("what",),
)

_SEVERITY = {"healthy": 0, "degraded": 1, "unhealthy": 2}
_STATES = ("up", "degraded", "down")
_KINDS: tuple[FailureKind, ...] = ("falsy", "exception", "timeout", "hung", "reported")
"""How a run can fail. Each is there from the start: nothing sees an increase from no sample."""
_BUCKETS = (*map(str, BOUNDS), "+Inf")
_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_ONE_PROCESS = " In multi-process mode: of the one process that answers this scrape."


class HealthCollector:
    """Collects the metrics of one registry, for any `CollectorRegistry` of prometheus_client.

    They are what `registry.measurements()` knows at the time of the scrape: nobody is asked, so
    somebody else has to, as `registry.running()` does. At most `CQRS_HEALTH_METRICS_MAX_NAMES`
    components and as many workers are named: checks before workers, and of both what is broken
    before what is not. How many were left out is in `cqrs_health_dropped_total`.

    In the multi-process mode of prometheus_client these metrics are of the process that answers,
    and their help says so; nothing of them is in the directory that the processes share.

    Args:
        registry: whose health it is.
        collector_registry: where to register it, `prometheus_client.REGISTRY` for one; nowhere
            if not given, `collector_registry.register(collector)` does it later.

    Raises:
        InvalidOptionError: if `registry` is no `HealthRegistry`.
        DuplicateNameError: if another collector there has these names, or one of them.
    """

    def __init__(
        self, registry: HealthRegistry, collector_registry: CollectorRegistry | None = None
    ) -> None:
        require_instance("registry", registry, HealthRegistry)
        self._registry = registry
        self._left_out = Counter[str]()
        self._lock = RLock()
        self._remark = _ONE_PROCESS if any(map(os.environ.get, _MULTIPROCESS)) else ""
        if collector_registry is not None:
            _register(self, collector_registry)

    def __repr__(self) -> str:
        service = self._registry.settings.service_name or "a service without a name"
        return f"<HealthCollector of {service}, registry at {id(self._registry):#x}>"

    @property
    def registry(self) -> HealthRegistry:
        """Whose health it is."""
        return self._registry

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without samples: it is their names that must not be taken."""
        yield self._gauge(_UP)
        yield self._gauge(_AGE)
        yield self._gauge(_STATUS)
        yield self._gauge(_READY)
        yield self._gauge(_STATE)
        yield self._gauge(_CRITICAL)
        yield self._durations({})
        yield self._counter(_FAILURES)
        yield self._gauge(_CHECKED)
        yield self._gauge(_INSTANCES)
        yield self._gauge(_PUBLISHES)
        yield self._gauge(_HUNG)
        yield self._counter(_DROPPED)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now, to any thread, and soon, whatever checks do."""
        measured = self._registry.measurements()
        shown = expose(measured.report, "safe")
        up = components_dict(shown)
        rows = self._chosen("components", _worst_rows(shown.components))
        workers = self._chosen(
            "workers", _workers(shown.components), without=measured.omitted_workers
        )
        runs = {name: measured.runs[name] for name in rows if name in measured.runs}
        yield self._gauge(_UP, (((name,), up[name] == "up") for name in rows))
        yield self._gauge(_AGE, _ages(shown.heartbeats, workers))
        yield self._gauge(_STATUS, [((), _SEVERITY[shown.status])])
        yield self._gauge(_READY, [((), measured.ready)])
        yield self._gauge(_STATE, _states(rows))
        yield self._gauge(_CRITICAL, (((name,), row.critical) for name, row in rows.items()))
        yield self._durations(runs)
        yield self._counter(_FAILURES, _failures(runs))
        yield self._gauge(_CHECKED, _checked(shown.components, runs))
        yield self._gauge(_INSTANCES, _instances(measured, workers))
        if measured.publishes is not None:
            yield self._gauge(_PUBLISHES, [((), measured.publishes)])
        yield self._gauge(_HUNG, [((), measured.hung_checks)])
        yield self._counter(_DROPPED, self._dropped(measured))

    def _chosen(self, what: str, rows: _Rows, *, without: int = 0) -> _Rows:
        """Return the rows that have a name in the metrics, in the order in which they were.

        `without` says how many the report has left out already.
        """
        limit = self._registry.settings.metrics_max_names
        left_out = max(len(rows) - limit, 0)
        with self._lock:
            self._left_out[what] += left_out + without
        if not left_out:
            return rows
        chosen = {row.name for row in sorted(rows.values(), key=_rank)[:limit]}
        return {name: row for name, row in rows.items() if name in chosen}

    def _dropped(self, measured: Measurements) -> _Samples:
        yield ("beats",), measured.dropped_beats
        yield ("transitions",), measured.dropped_transitions
        with self._lock:
            left_out = self._left_out.copy()
        for what in ("components", "workers"):
            yield (what,), left_out[what]

    def _gauge(self, described: _Described, samples: _Samples = ()) -> Metric:
        return self._filled(GaugeMetricFamily, described, samples)

    def _counter(self, described: _Described, samples: _Samples = ()) -> Metric:
        return self._filled(CounterMetricFamily, described, samples)

    def _filled(
        self,
        kind: type[GaugeMetricFamily | CounterMetricFamily],
        described: _Described,
        samples: _Samples,
    ) -> Metric:
        name, words, labels, unit = described
        family = kind(name, words + self._remark, labels=labels, unit=unit)
        for values, value in samples:
            family.add_metric(values, value)
        return family

    def _durations(self, runs: Mapping[str, Runs]) -> Metric:
        name, words, labels, unit = _DURATION
        family = HistogramMetricFamily(name, words + self._remark, labels=labels, unit=unit)
        for component, counted in runs.items():
            buckets = zip(_BUCKETS, accumulate(counted.by_duration), strict=True)
            family.add_metric((component,), list(buckets), counted.seconds)
        return family


def _worst_rows(rows: Iterable[ComponentStatus]) -> _Rows:
    """Return by name the row, the worst one if a check and a worker share the name."""
    worst: dict[str, ComponentStatus] = {}
    for row in rows:
        other = worst.get(row.name)
        if other is None or _weight(row) > _weight(other):
            worst[row.name] = row
    return worst


def _weight(row: ComponentStatus) -> tuple[int, bool]:
    return severity(row.state), row.critical


def _workers(rows: Iterable[ComponentStatus]) -> _Rows:
    return {row.name: row for row in rows if row.kind == "worker"}


def _rank(row: ComponentStatus) -> tuple[bool, int]:
    """Who makes up names makes up workers: these never take the place of a check."""
    return row.kind == "worker", -severity(row.state)


def _ages(records: Iterable[HeartbeatRecord], workers: _Rows) -> _Samples:
    ages: dict[str, float] = {}
    for record in records:
        if record.age_seconds is not None:
            ages[record.worker] = min(record.age_seconds, ages.get(record.worker, float("inf")))
    return (((name,), ages[name]) for name in workers if name in ages)


def _states(rows: _Rows) -> _Samples:
    return (((name, state), row.state == state) for name, row in rows.items() for state in _STATES)


def _failures(runs: Mapping[str, Runs]) -> _Samples:
    return (
        ((name, kind), counted.failures.get(kind, 0))
        for name, counted in runs.items()
        for kind in _KINDS
    )


def _checked(rows: Iterable[ComponentStatus], runs: Mapping[str, Runs]) -> _Samples:
    for row in rows:
        if row.kind != "worker" and row.name in runs and row.checked_at is not None:
            yield (row.name,), row.checked_at.timestamp()


def _instances(measured: Measurements, workers: _Rows) -> _Samples:
    for name in workers:
        for state, count in measured.instances[name].items():
            yield (name, state), count


def encoded(source: HealthCollector | CollectorRegistry, media_type: bytes) -> bytes:
    """Return the metrics of a source as they are now, in one of Prometheus' text formats."""
    encode, _ = choose_encoder(media_type.decode())
    return encode(source)


def _names_in(collector_registry: CollectorRegistry) -> Mapping[str, object]:
    # Who has a name there is nowhere to be asked for; where it is not kept so, nobody is named.
    found: object = vars(collector_registry).get("_names_to_collectors", {})
    return cast("Mapping[str, object]", found)


def is_collected_by(collector_registry: CollectorRegistry, registry: HealthRegistry) -> bool:
    """Whether a `HealthCollector` of that registry is registered there."""
    there = _names_in(collector_registry).get(_STATUS.name)
    return isinstance(there, HealthCollector) and there.registry is registry


def _register(collector: HealthCollector, collector_registry: CollectorRegistry) -> None:
    try:
        collector_registry.register(collector)
    except ValueError as error:
        taken = _names_in(collector_registry)
        names = [metric.name for metric in collector.describe() if metric.name in taken]
        others = {id(taken[name]): repr(taken[name]) for name in names}
        raise DuplicateNameError(
            f"{collector!r} cannot be registered where {' and '.join(others.values())} is: both "
            f"have {' and '.join(names[:2])}; unregister one, or give it another CollectorRegistry"
        ) from error
