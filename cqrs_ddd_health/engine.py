"""The parts of one registry, wired to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .catalog import Catalog
from .configured import ConfiguredChecks
from .heartbeats.memory import MemoryHeartbeatStore
from .heartbeats.workers import Workers
from .listeners import Listeners
from .refresh import Refresher
from .reporting import Reporter
from .runner import Runner
from .settings import HealthSettings
from .threads import DaemonThreads

if TYPE_CHECKING:
    from .protocols import Clock

__all__ = ["Engine"]


class Engine:
    """What a registry works with."""

    def __init__(
        self, settings: HealthSettings, clock: Clock, heartbeat_timeout_seconds: float
    ) -> None:
        self.listeners: Listeners = Listeners()
        self.runner: Runner = Runner(
            clock, DaemonThreads(settings.max_threads), self.listeners.tell
        )
        self.catalog: Catalog = Catalog(settings)
        self.configured: ConfiguredChecks = ConfiguredChecks(settings, self.catalog)
        self.refresher: Refresher = Refresher(self.catalog, self.runner)
        self.store: MemoryHeartbeatStore = MemoryHeartbeatStore(
            timeout_seconds=heartbeat_timeout_seconds,
            instance=settings.instance,
            max_workers=settings.max_workers,
            max_instances=settings.max_instances,
            clock=clock,
        )
        self.workers: Workers = Workers(
            timeout_seconds=heartbeat_timeout_seconds,
            max_records=settings.max_heartbeats,
            tell=self.listeners.tell,
        )
        self.reporter: Reporter = Reporter(
            self.catalog,
            self.runner,
            self.refresher,
            self.store,
            self.workers,
            settings=settings,
            clock=clock,
        )

    def begin_process(self) -> None:
        """Start anew in a forked child: what belongs to the parent's process stays there."""
        self.catalog.begin_process()
        self.reporter.begin_process()
        self.refresher.begin_process()
        self.configured.begin_process()
        self.runner.forget_flights(self.catalog.slots.values())
        self.workers.begin_process()
        self.store.begin_process()
        self.listeners.forget_threads()
