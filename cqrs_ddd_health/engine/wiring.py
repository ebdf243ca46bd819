"""The parts of one registry, wired to each other."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING

from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.models import ComponentKind
from cqrs_ddd_health.domain.transitions import Transition
from cqrs_ddd_health.errors import HealthError, SettingsError, UnknownNameError
from cqrs_ddd_health.heartbeats.shared import STORE, SharedHeartbeats
from cqrs_ddd_health.heartbeats.stores.memory import MemoryHeartbeatStore
from cqrs_ddd_health.heartbeats.workers import Workers
from cqrs_ddd_health.runtime.greenlets import running_loop
from cqrs_ddd_health.runtime.loop_watchdog import Pulses
from cqrs_ddd_health.runtime.threads import DaemonThreads, LoopThread, run_blocking

from .check_table import Catalog
from .configured_checks import ConfiguredChecks
from .history import PastResult, Transitions
from .listeners import Listeners
from .owner_loop import OwnerLoop
from .reporter import Reporter
from .runner import Runner
from .scheduler import Refresher
from .single_flight import Slot

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock, HeartbeatStore

__all__ = ["Engine"]


class Engine:
    """What a registry works with."""

    def __init__(
        self,
        settings: HealthSettings,
        clock: Clock,
        heartbeat_timeout_seconds: float,
        heartbeat_store: HeartbeatStore | None,
        *,
        own_loop: bool,
    ) -> None:
        self._clock = clock
        self.loop_thread: LoopThread = LoopThread()
        owner = OwnerLoop(self.loop_thread.started if own_loop else None)
        self.listeners: Listeners = Listeners()
        self.transitions: Transitions = Transitions()
        self.runner: Runner = Runner(clock, DaemonThreads(settings.max_threads), owner, self._tell)
        self.catalog: Catalog = Catalog(settings)
        self.configured: ConfiguredChecks = ConfiguredChecks(settings, self.catalog)
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
            max_workers=settings.max_shared_workers,
            tell=self._tell,
        )
        self.shared: SharedHeartbeats | None = self._shared(heartbeat_store, settings, clock)
        self.shared_slots: tuple[Slot, ...] = _slots_of(self.shared)
        self.refresher: Refresher = Refresher(self.catalog, self.runner, self.shared_slots)
        self.pulses: Pulses = Pulses()
        self.reporter: Reporter = Reporter(
            self.catalog,
            self.runner,
            self.refresher,
            self.store,
            self.workers,
            shared=self.shared,
            shared_slots=self.shared_slots,
            pulses=self.pulses,
            settings=settings,
            clock=clock,
            loop_thread=self.loop_thread,
        )

    def _shared(
        self, store: HeartbeatStore | None, settings: HealthSettings, clock: Clock
    ) -> SharedHeartbeats | None:
        url = settings.heartbeat_store_url
        if store is None and url is not None:
            store = self._store_at(url.get_secret_value(), settings.heartbeat_store_namespace)
        if store is None:
            return None
        shared = SharedHeartbeats(
            store,
            self.store,
            clock,
            timeout_seconds=settings.check_timeout_seconds,
            max_instances=settings.max_instances,
            expected=lambda: self.workers.expected,
        )
        self.store.on_news = shared.publisher.wake
        return shared

    @staticmethod
    def _store_at(url: str, namespace: str) -> HeartbeatStore | None:
        from cqrs_ddd_health.heartbeats.stores.from_url import (
            store_from_url,  # with modules that few applications need
        )

        try:
            store = store_from_url(url, namespace)
            return None if isinstance(store, MemoryHeartbeatStore) else store
        except (HealthError, ImportError) as error:
            raise SettingsError(f"CQRS_HEALTH_HEARTBEAT_STORE_URL: {error}") from None

    def _tell(self, transition: Transition, context: Context) -> None:
        self.transitions.add(transition)
        self.listeners.tell(transition, context)

    def history(self, name: str, kind: ComponentKind) -> tuple[PastResult, ...]:
        """Return the recent results of that check, or of the heartbeat store."""
        with self.runner.lock:
            results = self._slot(name, kind).results
            return results.read(self._clock.monotonic(), self._clock.now())

    def _slot(self, name: str, kind: ComponentKind) -> Slot:
        if kind == "check":
            return self.catalog.slot(name)
        if name not in {slot.name for slot in self.shared_slots}:
            raise UnknownNameError(f"there is no heartbeat store that is shown as {name!r}")
        return self.shared_slots[0]

    def remove(self, name: str) -> None:
        """Remove a check and what it did: what a run under way finds is told to nobody any more."""
        with self.runner.lock:
            self.catalog.remove(name)
            self.transitions.forget(name, "check")

    def retire(self, worker: str, instance: str | None) -> None:
        """Forget this process's beats of a worker, here and where they were shared."""
        token = self.store.token
        for name in self.store.forget(worker, instance):
            if self.shared is not None:
                self.shared.publisher.say_goodbye(worker, name, token)
        if instance is None:
            self.workers.retire(worker)

    async def aclose(self) -> None:
        """Close what was made here; the store's thread goes on while this process beats."""
        await self.configured.aclose()
        await run_blocking(self.loop_thread.close)
        if self.shared is not None and not self.store.is_beating:
            await run_blocking(self.shared.publisher.leave)

    def close(self) -> None:
        """Do so for a caller that has no loop, and say goodbye for all beats."""
        if running_loop() is None and self.configured.is_connected:
            self.loop_thread.run(self.configured.aclose)
        self.loop_thread.close()
        if self.shared is not None:
            self.shared.publisher.leave()

    def begin_process(self) -> None:
        """Start anew in a forked child: what belongs to the parent's process stays there."""
        self.catalog.begin_process()
        self.loop_thread.begin_process()
        self.refresher.begin_process()
        self.pulses.begin_process()
        self.configured.begin_process()
        self.runner.forget_flights((*self.catalog.slots.values(), *self.shared_slots))
        self.workers.begin_process()
        self.store.begin_process()
        if self.shared is not None:
            self.shared.begin_process()
        self.transitions.begin_process()
        self.listeners.begin_process()


def _slots_of(shared: SharedHeartbeats | None) -> tuple[Slot, ...]:
    """Return the slot of the shared store, if there is one."""
    if shared is None:
        return ()
    return (Slot(STORE, shared.look, shared.options, kind="store", loop_bound=False),)
