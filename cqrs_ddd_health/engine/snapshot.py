"""All that is known of a registry at one moment, with nobody asked: what metrics are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cqrs_ddd_health.domain.contract import is_ready
from cqrs_ddd_health.domain.models import ComponentState, HealthReport
from cqrs_ddd_health.domain.selection import EVERYTHING
from cqrs_ddd_health.heartbeats.workers import instances_by_state

from .tallies import Runs
from .wiring import Engine

__all__ = ["Measurements", "measured"]


class Measurements(NamedTuple):
    """What is known and was counted, in this process."""

    report: HealthReport
    """Each check with its last outcome, whatever its age; ages of beats are as of now."""
    runs: Mapping[str, Runs]
    """By check, and by the heartbeat store, what was counted of its runs."""
    instances: Mapping[str, Mapping[ComponentState, int]]
    """By worker, how many of its instances are in which state; each state is there."""
    hung_checks: int
    """How many checks were cut off by their timeout and have not ended yet."""
    dropped_beats: int
    """How many beats were dropped for a limit on workers or instances."""
    dropped_transitions: int
    """How many transitions listeners, or the log, never heard of, for being too slow."""
    omitted_workers: int = 0
    """How many workers of other processes have no row in the report, for a limit."""
    publishes: bool | None = None
    """Whether the last publish of this process's beats succeeded; None if they are not shared."""

    @property
    def ready(self) -> bool:
        """Whether this process may get traffic, as `/health/ready` answers by these outcomes."""
        return is_ready(self.report)


def measured(engine: Engine) -> Measurements:
    """Return what a registry knows now. Blocks for no check and no store; from any thread."""
    shared = engine.shared
    report, workers = engine.reporter.known()
    slots = (*engine.shared_slots, *engine.catalog.select(EVERYTHING))
    with engine.runner.lock:
        runs = {slot.name: slot.tally.read() for slot in slots}
    return Measurements(
        report=report,
        runs=runs,
        instances=instances_by_state(workers),
        hung_checks=engine.runner.hung,
        dropped_beats=engine.store.dropped,
        dropped_transitions=engine.listeners.dropped,
        omitted_workers=workers.omitted_workers,
        publishes=None if shared is None else shared.publisher.failure is None,
    )
