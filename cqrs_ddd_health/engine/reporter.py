"""Makes reports: asks the checks, looks at the workers, and puts together what they say."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.evaluation import Beat
from cqrs_ddd_health.domain.models import (
    ComponentStatus,
    Failure,
    FailureKind,
    HealthReport,
    Probe,
    ServiceInfo,
    overall_status,
)
from cqrs_ddd_health.domain.options import require_bool, require_seconds
from cqrs_ddd_health.domain.selection import EVERYTHING, Selection
from cqrs_ddd_health.errors import BlockingCallError
from cqrs_ddd_health.heartbeats.beat_table import Others
from cqrs_ddd_health.heartbeats.shared import SharedHeartbeats
from cqrs_ddd_health.heartbeats.stores.memory import MemoryHeartbeatStore
from cqrs_ddd_health.heartbeats.workers import Workers, WorkersView
from cqrs_ddd_health.runtime.greenlets import NoThreadsError, running_loop
from cqrs_ddd_health.runtime.loop_watchdog import Pulses
from cqrs_ddd_health.runtime.sigterm import keep_hold
from cqrs_ddd_health.runtime.threads import LoopThread

from .check_table import Catalog
from .runner import Runner
from .scheduler import Refresher
from .single_flight import Slot, is_aged, stands_in

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["Reporter"]

EVER = sys.float_info.max
"""Seconds: no outcome is older. One that stands in no longer is, as if of minus infinity."""

LOOP = "event_loop"
"""The row of the loop that owns the checks. It is there only while that does not answer."""


class Reporter:
    """Makes the reports of one registry; `HealthRegistry.report` says what they promise."""

    def __init__(
        self,
        catalog: Catalog,
        runner: Runner,
        refresher: Refresher,
        store: MemoryHeartbeatStore,
        workers: Workers,
        *,
        shared: SharedHeartbeats | None,
        shared_slots: Sequence[Slot],
        pulses: Pulses,
        settings: HealthSettings,
        clock: Clock,
        loop_thread: LoopThread,
    ) -> None:
        self.draining: bool = False
        self._catalog = catalog
        self._runner = runner
        self._refresher = refresher
        self._pulses = pulses
        self._store = store
        self._shared = shared
        self._store_slots = shared_slots
        self._workers = workers
        self._settings = settings
        self._clock = clock
        self._loop_thread = loop_thread
        self._since = clock.now()

    def is_empty(self) -> bool:
        """Whether a report would have no component."""
        return not (
            self._catalog.select(EVERYTHING)
            or self._workers.expected
            or self._settings.required
            or self._shared is not None
            or any(self._store.beats(self._clock.monotonic()))
        )

    async def report(
        self,
        probe: Probe | None,
        tags: Iterable[str],
        max_age_seconds: float,
        deadline_seconds: float | None,
        *,
        refreshed: bool = False,
    ) -> HealthReport:
        """Return what checks and workers say."""
        selection = Selection.of(probe, tags)
        require_seconds("max_age_seconds", max_age_seconds)
        if deadline_seconds is not None:
            require_seconds("deadline_seconds", deadline_seconds)
        require_bool("refreshed", refreshed)
        keep_hold()  # whoever asks wants to know before the process leaves
        if refreshed and probe == "ready" and self.draining:
            deadline_seconds = 0.0  # it says no, whatever they would
        began = self._clock.monotonic()
        slots = self._catalog.select(selection)
        asked = (*slots, *self._shared_slots(selection))
        if refreshed:
            at = self._clock.now()
            self._runner.disbelieve([slot for slot in asked if is_aged(slot, at)])
        await self._runner.ask(
            self._not_refreshed(asked, began) if refreshed else asked,
            max_age_seconds=max_age_seconds,
            deadline_seconds=deadline_seconds,
        )
        return self._put_together(selection, slots, asked, began, max_age_seconds)[0]

    def known(self) -> tuple[HealthReport, WorkersView]:
        """Return what there is to report with nobody asked: the last outcomes, however old.

        It is as of now what workers do, as far as that was read; any thread may ask.
        """
        slots = self._catalog.select(EVERYTHING)
        asked = (*slots, *self._shared_slots(EVERYTHING))
        return self._put_together(EVERYTHING, slots, asked, self._clock.monotonic(), EVER)

    def _put_together(
        self,
        selection: Selection,
        slots: Sequence[Slot],
        asked: Sequence[Slot],
        began: float,
        max_age_seconds: float,
    ) -> tuple[HealthReport, WorkersView]:
        now, at = self._clock.monotonic(), self._clock.now()
        own, others = self._store.beats(now), self._others(now)
        workers = self._seen_workers(selection, own, others, now, at, asked=len(asked) > len(slots))
        stores = [slot for slot in asked[len(slots) :] if selection == EVERYTHING]
        rows = (
            *self._runner.rows((*slots, *stores), began, max_age_seconds, at),
            *(row for row in workers.rows if _takes(selection, row)),
            *(row for row in self._missing_rows(own, others) if _takes(selection, row)),
            *(row for row in self._silent_rows(at) if _takes(selection, row)),
        )
        report = HealthReport(
            status=overall_status(rows),
            components=rows,
            heartbeats=workers.records,
            heartbeats_omitted=workers.omitted,
            timestamp=at,
            duration_seconds=now - began,
            draining=self.draining,
            service=self._service(),
        )
        return report, workers

    def _shared_slots(self, selection: Selection) -> Sequence[Slot]:
        """Return the slot of the shared store if what it holds can make a difference."""
        if self._shared is None or selection.tags:
            return ()
        if selection.probe is not None and not self._workers.gates(selection.probe):
            return ()
        return self._store_slots

    def _others(self, now: float) -> Others:
        return Others() if self._shared is None else self._shared.others(now)

    def _seen_workers(
        self,
        selection: Selection,
        own: Sequence[Beat],
        others: Others,
        now: float,
        at: datetime,
        *,
        asked: bool,
    ) -> WorkersView:
        """Return what is to be said of workers: for a probe of those alone that gate it."""
        probe = selection.probe
        only = None if probe is None else self._workers.gating(probe, own)
        unseen = self._is_unseen(now, asked=asked)
        return self._workers.view(own, now, at, others=others, unseen=unseen, only=only)

    def _is_unseen(self, now: float, *, asked: bool) -> bool:
        """Whether what other processes do is not known now, to somebody who asked or did not."""
        if self._shared is None:
            return False
        if not self._shared.was_read:
            return True
        return asked and not all(stands_in(slot, now) for slot in self._store_slots)

    def _not_refreshed(self, slots: Sequence[Slot], now: float) -> Sequence[Slot]:
        """Return those that the background refresh does not look after, or not any more."""
        if not self._refresher.is_running:
            return slots
        return [slot for slot in slots if slot.row is None or not stands_in(slot, now)]

    def report_sync(
        self,
        probe: Probe | None,
        tags: Iterable[str],
        max_age_seconds: float,
        deadline_seconds: float | None,
    ) -> HealthReport:
        """Return what checks and workers say, to a caller that has no event loop."""
        if running_loop() is not None:
            raise BlockingCallError(
                "report_sync() would block the running event loop; use `await registry.report()`"
            )
        with self._runner.lock:
            self._runner.owner.called_from(threading.current_thread())
        try:
            return self._loop_thread.run(
                lambda: self.report(probe, tags, max_age_seconds, deadline_seconds)
            )
        except NoThreadsError as error:
            raise BlockingCallError(f"report_sync() has no event loop: {error}") from None

    def _missing_rows(self, own: Sequence[Beat], others: Others) -> Iterable[ComponentStatus]:
        """Return a row for each name that is required and that no check and no worker has."""
        if not self._settings.required:
            return
        seen = {*(beat.worker for beat in own), *others.beats.workers}
        for name in dict.fromkeys(self._settings.required):
            if name not in seen and name not in self._catalog.slots:
                yield self._missing_row(name, is_left_out=others.left_out_of(name) != "nobody")

    def _missing_row(self, name: str, *, is_left_out: bool) -> ComponentStatus:
        kind: FailureKind = "unavailable" if is_left_out else "missing"
        message = "it is required and was neither registered nor seen"
        if is_left_out:
            message += ", but there are more beats in the heartbeat store than are read"
        return ComponentStatus(
            name=name,
            state="degraded" if is_left_out else "down",
            probes=("ready",),
            since=self._since,
            failure=Failure(kind=kind, message=message, since=self._since),
        )

    def _silent_rows(self, at: datetime) -> Iterable[ComponentStatus]:
        """Return a row for the loop that owns the checks while that does not answer."""
        silent = self._pulses.silent_seconds()
        if silent < self._settings.http_deadline_seconds:
            return
        stall = self._settings.live_stall_seconds
        since = at - timedelta(seconds=silent)
        message = "the event loop that the checks belong to does not answer"
        yield ComponentStatus(
            name=self._free_name(LOOP),
            state="down",
            probes=("live", "ready") if 0 < stall <= silent else ("ready",),
            since=since,
            failure=Failure(kind="hung", message=message, since=since),
        )

    def _free_name(self, name: str) -> str:
        """Return that name, or one like it if there is a check that has it."""
        while name in self._catalog.slots or name in self._settings.required:
            name += "_"
        return name

    def _service(self) -> ServiceInfo:
        return ServiceInfo(
            name=self._settings.service_name,
            version=self._settings.service_version,
            instance=self._store.instance,
        )


def _takes(selection: Selection, row: ComponentStatus) -> bool:
    return selection.takes(critical=row.critical, probes=row.probes, tags=row.tags)
