"""A scrape of many components and workers, against client_python's own for as many samples.

Theirs are gauges, counters and histograms that hold the values already; ours are made of a report
at each scrape. Both are encoded by the same function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.engine.tallies import BOUNDS
from cqrs_ddd_health.prometheus import HealthCollector

from .measure import Result, at_most, compared, sync_timer, taking_turns

__all__ = ["measure"]

SUBJECT = "metrics"
COMPONENTS = 1_000
WORKERS = 100
INSTANCES = 10_000

_TARGET = at_most(3)
_without_created: Callable[[], object] = disable_created_metrics
_with_created: Callable[[], object] = enable_created_metrics


def measure(rounds: int) -> Iterable[Result]:
    """Compare them with as many names as there are by default, and with all of them."""
    _without_created()  # samples that ours have none of
    try:
        yield _compare(200, "200 of them named", rounds)
        yield _compare(COMPONENTS + WORKERS, "all of them named", rounds)
    finally:
        _with_created()


def _compare(limit: int, what: str, rounds: int) -> Result:
    registry, calls = _registry(limit)
    ours = CollectorRegistry()
    HealthCollector(registry, ours)
    theirs = _copied(list(ours.collect()))
    asked = list(calls)
    samples = _samples(ours)
    assert samples == _samples(theirs)
    mine, other = taking_turns(
        sync_timer(lambda: generate_latest(ours)),
        sync_timer(lambda: generate_latest(theirs)),
        rounds=rounds,
        calls=2,
    )
    assert calls == asked, "a scrape has started a check"
    words = f"{COMPONENTS:,} components, {INSTANCES:,} instances, {what}: {samples:,} samples"
    return compared(SUBJECT, words, mine, other, _TARGET)


def _registry(limit: int) -> tuple[HealthRegistry, Sequence[int]]:
    registry = HealthRegistry(settings=HealthSettings(metrics_max_names=limit))
    calls: list[int] = []

    async def check() -> bool:
        calls.append(1)
        return True

    for number in range(COMPONENTS):
        registry.register(f"component {number}", check)
    for number in range(INSTANCES):
        registry.heartbeat(f"worker {number % WORKERS}", instance=f"instance {number}")
    asyncio.run(registry.report())
    assert len(calls) == COMPONENTS
    return registry, calls


def _copied(families: Iterable[Metric]) -> CollectorRegistry:
    """Return metrics of client_python that have the same samples."""
    copies = CollectorRegistry()
    for family in families:
        if not family.samples:
            continue
        labels = [name for name in family.samples[0].labels if name != "le"]
        if family.type == "histogram":
            _copy_histogram(family, labels, copies)
            continue
        kind = Counter if family.type == "counter" else Gauge
        copy = kind(family.name, family.documentation, labels, registry=copies)
        for sample in family.samples:
            child = copy.labels(**sample.labels) if labels else copy
            child.inc(sample.value)
    return copies


def _copy_histogram(family: Metric, labels: Sequence[str], copies: CollectorRegistry) -> None:
    copy = Histogram(family.name, family.documentation, labels, buckets=BOUNDS, registry=copies)
    for sample in family.samples:
        if sample.name.endswith("_count"):
            copy.labels(**sample.labels).observe(0.001)


def _samples(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())
