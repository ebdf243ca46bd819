"""The reports that answers are made of: one is made for all who ask, and kept while it is young."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cqrs_ddd_health.domain.models import HealthReport, Probe

from .cache import Answers, Prepared

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["Reports"]


class Reports:
    """The reports of one registry, asked for within the limits that the settings set to HTTP."""

    def __init__(self, registry: HealthRegistry) -> None:
        self._registry = registry
        self._kept: Answers[HealthReport] = Answers(lambda: registry.generation)

    async def report(self, probe: Probe | None) -> Prepared[HealthReport]:
        """Return the report that all share, whole: it is for `expose` to cut it down."""
        key = probe, self._registry.draining
        return await self._kept.made(key, lambda: self._ask(probe))

    async def _ask(self, probe: Probe | None) -> Prepared[HealthReport]:
        settings = self._registry.settings
        report = await self._registry.report(
            probe=probe,
            max_age_seconds=settings.http_max_age_seconds,
            deadline_seconds=settings.http_deadline_seconds,
            refreshed=True,
        )
        age = 0.0 if self._registry.refreshing else _age_seconds(report)
        fresh_for = settings.http_max_age_seconds - age
        return Prepared(report, time.monotonic() + max(fresh_for, 0.0))


def _age_seconds(report: HealthReport) -> float:
    """Return how old the oldest outcome in the report is; what hangs or waits is as of now."""
    outcomes = (
        (report.timestamp - row.checked_at).total_seconds()
        for row in report.components
        if row.checked_at is not None and not (row.failure and row.failure.kind == "hung")
    )
    return max((0.0, *outcomes))  # never negative, whatever the wall clock did meanwhile
