"""The registry: checks and workers under their names, and one report of them all."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from .checks.callable import Check
from .config.settings import HealthSettings
from .domain.contract import components_dict, status_dict
from .domain.models import HealthReport, Probe
from .domain.names import require_name
from .domain.options import (
    CheckOptions,
    options_from_keywords,
    require_bool,
    require_instance,
    require_seconds,
)
from .domain.transitions import Transition
from .domain.wire import StatusDict, UpDown
from .engine.configured_checks import OptionOrigin, origins_of
from .engine.default_instance import Instances
from .engine.given_clock import GivenClock
from .engine.history import PastResult
from .engine.snapshot import Measurements, measured
from .engine.wiring import Engine
from .engine.worker_api import Beating
from .runtime.clock import SystemClock
from .runtime.forking import at_fork, notice_fork
from .runtime.greenlets import running_loop

if TYPE_CHECKING:
    from .domain.protocols import Clock, HeartbeatStore, Listener

__all__ = ["HealthRegistry"]

C = TypeVar("C", bound=Check)


class _Missing:
    """Stands for a check that was not given: `None` would be one that is not callable."""


_MISSING = _Missing()


class HealthRegistry(Beating):
    """Checks and worker heartbeats, and what they say together.

    `HealthRegistry.get_instance()` is the one of the process; any number of others may live
    beside it. Every method may be called from any thread.

    Args:
        heartbeat_timeout_seconds: the age beyond which a worker's beat is stale, in seconds;
            `CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS` or 60 if not given. With 0 every beat is.
        settings: the settings to go by; read from the environment if not given.
        clock: where time comes from; the machine's clocks if not given. They also stand in for one
            that raises or goes back, and what was asked meanwhile is degraded and says so.
        heartbeat_store: where beats are shared with other processes, asked on one loop of a thread
            of its own; made of `CQRS_HEALTH_HEARTBEAT_STORE_URL` if not given.
        own_loop: whether async checks run on a loop of the registry's own, on a daemon thread,
            whoever asks: for a script or a WSGI application that uses their clients on no loop.
            False by default: they run on the loop of the application, see `running`.

    Raises:
        InvalidOptionError: if the timeout is negative or not a finite number, or `own_loop` is
            neither True nor False.
        SettingsError: if the environment holds a malformed value.
    """

    def __init__(
        self,
        heartbeat_timeout_seconds: float | None = None,
        *,
        settings: HealthSettings | None = None,
        clock: Clock | None = None,
        heartbeat_store: HeartbeatStore | None = None,
        own_loop: bool = False,
    ) -> None:
        self._settings = settings = settings or HealthSettings.from_environment()
        clock = SystemClock() if clock is None else GivenClock(clock)
        timeout = settings.heartbeat_timeout_seconds
        if heartbeat_timeout_seconds is not None:
            timeout = require_seconds("heartbeat_timeout_seconds", heartbeat_timeout_seconds)
        require_bool("own_loop", own_loop)
        engine = Engine(settings, clock, timeout, heartbeat_store, own_loop=own_loop)
        super().__init__(engine, clock)
        _instances.add(self._engine)
        if isinstance(clock, GivenClock):
            _instances.add(clock)

    @classmethod
    def get_instance(cls) -> HealthRegistry:
        """Return the registry of the process, made when first asked for."""
        notice_fork()
        return _instances.default(cls)

    @classmethod
    def set_instance(cls, registry: HealthRegistry | None) -> None:
        """Make `registry` the one of the process; `None` has the next asker make a new one."""
        HealthRegistry.exchange_instance(registry)

    @classmethod
    def exchange_instance(cls, registry: HealthRegistry | None) -> HealthRegistry | None:
        """Do as `set_instance` and return the one before, or `None` if none was made yet."""
        require_instance("the default registry", registry, HealthRegistry)
        notice_fork()
        return _instances.exchange(registry)

    @property
    def settings(self) -> HealthSettings:
        """The settings that this registry goes by."""
        return self._settings

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the registered checks, in the order of their registration."""
        return tuple(self._engine.catalog.slots)

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the registered checks, which `report(tags=...)` selects by."""
        slots = self._engine.catalog.slots.values()
        return frozenset(tag for slot in slots for tag in slot.options.tags)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell of: such a registry would always look healthy."""
        return self._engine.reporter.is_empty()

    @property
    def hung_checks(self) -> int:
        """How many checks were cut off by their timeout and have not ended yet."""
        return self._engine.runner.hung

    @property
    def dropped_beats(self) -> int:
        """How many beats were dropped for a limit on workers or instances."""
        return self._engine.store.dropped

    @property
    def refreshing(self) -> bool:
        """Whether the background refresh of `running()` is going on, in whichever thread."""
        return self._engine.refresher.is_running

    @property
    def generation(self) -> int:
        """How often a first block of `running()` was entered.

        Before a check was asked in the present one, what it found in an earlier one counts nothing.
        """
        return self._engine.refresher.generation

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._engine.reporter.draining

    @overload
    def register(
        self,
        name: str,
        check: C,
        *,
        timeout_seconds: float | None = None,
        critical: bool | None = None,
        probes: Iterable[Probe] | None = None,
        tags: Iterable[str] | None = None,
        options: CheckOptions | None = None,
        replace: bool = True,
    ) -> C: ...

    @overload
    def register(
        self,
        name: str,
        *,
        timeout_seconds: float | None = None,
        critical: bool | None = None,
        probes: Iterable[Probe] | None = None,
        tags: Iterable[str] | None = None,
        options: CheckOptions | None = None,
        replace: bool = True,
    ) -> Callable[[C], C]: ...

    def register(
        self,
        name: str,
        check: C | _Missing = _MISSING,
        *,
        timeout_seconds: float | None = None,
        critical: bool | None = None,
        probes: Iterable[Probe] | None = None,
        tags: Iterable[str] | None = None,
        options: CheckOptions | None = None,
        replace: bool = True,
    ) -> C | Callable[[C], C]:
        """Register `check` under `name`, in place of what had it; a decorator without `check`.

        Args:
            name: at most 128 characters, nothing unprintable.
            check: a callable of no arguments, sync or async, that returns anything truthy or
                falsy or a `CheckResult`; or an object with `async def check(self)`.
            timeout_seconds: how long one run may take, in seconds; 5 by default.
            critical: whether its being down makes the report unhealthy; yes by default.
            probes: what it gates: "ready" by default, or any of "live", "ready", "startup".
            tags: names to select it by in `report(tags=...)`.
            options: all options in one object; keywords win over it, the environment over both.
            replace: whether a check that has the name already may be replaced.

        Raises:
            InvalidNameError: if the name, or a tag, cannot be shown safely.
            InvalidCheckError: if the check cannot be called, or not without arguments.
            InvalidOptionError: if an option has the wrong type or is out of its range.
            DuplicateNameError: if the name is taken and `replace` is false, or another name is
                spelled the same in the environment.
        """
        keywords = {
            "timeout_seconds": timeout_seconds,
            "critical": critical,
            "probes": probes,
            "tags": tags,
        }

        def add(check: C) -> C:
            said = options_from_keywords(name, keywords)
            self._engine.catalog.add(name, check, options, said, replace=replace)
            self._engine.runner.registered_on(running_loop())
            return check

        require_name(name, "check")
        return add if isinstance(check, _Missing) else add(check)

    def register_from_settings(self) -> tuple[str, ...]:
        """Register a check for every `CQRS_HEALTH_CHECKS__<NAME>__URL`, and return their names.

        A check that was registered in code under such a name gives way to it, and leaves its
        options. Clients connect when first asked; the registry closes them at the end of
        `running()` and in `aclose()`. Called again, it makes nothing twice.

        Raises:
            SettingsError: if a URL has no scheme that is known, does not fit it, or needs a library
                that is not installed; it names every such variable, and none is registered.
        """
        return self._engine.configured.register()

    def origins(self, name: str) -> Mapping[str, OptionOrigin]:
        """Return each option of the check of that name, with its value and who said so.

        Raises:
            UnknownNameError: if there is none.
        """
        return origins_of(self._engine.catalog.slot(name), self._settings)

    def unregister(self, name: str) -> None:
        """Remove the check of that name; a run of it that is under way ends unseen.

        Raises:
            UnknownNameError: if there is none.
        """
        self._engine.remove(name)

    async def report(
        self,
        *,
        probe: Probe | None = None,
        tags: Iterable[str] = (),
        max_age_seconds: float = 0.0,
        deadline_seconds: float | None = None,
        refreshed: bool = False,
    ) -> HealthReport:
        """Ask the checks, look at the workers, and return what they say.

        Returns within the deadline, or else within the largest timeout of the checks that were
        asked, whatever they do. Askers at the same time share one run of each check.

        Args:
            probe: only what gates that probe: critical components that name it.
            tags: only checks with one of these tags.
            max_age_seconds: take an outcome that is no older than this for an answer.
            deadline_seconds: how long to wait. A check that is still running then shows its last
                outcome while that is younger than its timeout plus its interval, or is `pending`.
            refreshed: under `running()`, take what the background refresh found last, as long as
                it keeps its pace, and ask only what it has not asked yet. What gates ready is
                not waited for while draining.

        Raises:
            InvalidOptionError: if an argument is out of its range.
        """
        return await self._engine.reporter.report(
            probe, tags, max_age_seconds, deadline_seconds, refreshed=refreshed
        )

    def report_sync(
        self,
        *,
        probe: Probe | None = None,
        tags: Iterable[str] = (),
        max_age_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> HealthReport:
        """Do as `report` for a caller without an event loop: WSGI, Celery, a script.

        It is made on a loop of the registry's own, on a daemon thread that `aclose` ends. Checks
        over async clients of the application are asked on the application's loop, see `running`;
        as long as none is known they are `pending`, unless the registry was made with `own_loop`.

        Raises:
            BlockingCallError: if an event loop is running in this thread, which it would block.
            InvalidOptionError: if an argument is out of its range.
        """
        return self._engine.reporter.report_sync(probe, tags, max_age_seconds, deadline_seconds)

    def measurements(self) -> Measurements:
        """Return what is known now and was counted so far, with nobody asked anything.

        What metrics are made of, for whatever system they go to. Its report has the last outcome of
        each check, whatever its age, and whoever was never asked is `pending`: somebody has to ask,
        `running()` for one.
        """
        return measured(self._engine)

    async def check_all(self) -> dict[str, UpDown]:
        """Return every component as "up" or "down"."""
        return components_dict(await self.report())

    async def status(self) -> StatusDict:
        """Return the overall status with components, timestamp and heartbeats, all as text."""
        return status_dict(await self.report())

    @asynccontextmanager
    async def running(
        self, *, owner: AbstractEventLoop | None = None
    ) -> AsyncGenerator[HealthRegistry]:
        """Refresh every check in the background while the block lasts: `async with` it.

        Each at its `interval_seconds` (10, and 30 while it is down) and up to 10 % more or less;
        the first time after its `initial_delay_seconds`, or else anywhere within its interval.
        At the end of the last such block nothing of it runs any more, and what
        `register_from_settings` made is closed. At the begin of the first one all that was found
        before is forgotten: whoever wants to know before the first run has it run at once.

        Coroutine functions and checks over an async client are asked on one loop only, since that
        is where their clients live. It is the first of these that is known and not closed: the
        `owner`; the loop in which such a block was entered; the loop on which a report was awaited
        first; the loop that ran when a check was registered; the loop of an AnyIO worker thread
        that calls `report_sync`. A loop of the library's own never is.

        Args:
            owner: the loop on which these checks are asked, if it is another one. While the block
                lasts it is watched: once it has not answered for
                `CQRS_HEALTH_HTTP_DEADLINE_SECONDS`, reports have a row `event_loop` that is down
                and gates ready, and live too once it has not for `CQRS_HEALTH_LIVE_STALL_SECONDS`.
                `HealthServer` says this for its user.
        """
        engine = self._engine
        watching = engine.pulses.watching(owner, self._settings.http_deadline_seconds)
        try:
            with engine.runner.owned_by(owner):
                async with engine.refresher.running(), watching:
                    yield self
        finally:
            if not engine.refresher.is_wanted:
                await self.aclose()

    async def aclose(self) -> None:
        """Close what was opened: clients of `register_from_settings`, the loop of `report_sync`.

        Whoever asks again has it opened again.
        """
        await self._engine.aclose()

    def close(self) -> None:
        """Do as `aclose` for a caller without an event loop, and end the thread that shares beats.

        Inside a running loop, clients that were opened for it stay open: that takes `aclose`.
        """
        self._engine.close()

    def drain(self) -> None:
        """Say that the process is leaving: from now on it is alive, but not ready."""
        self._engine.reporter.draining = True

    def history(
        self, name: str, *, kind: Literal["check", "store"] = "check"
    ) -> tuple[PastResult, ...]:
        """Return how the last 60 runs of that check ended, in this process, the oldest first.

        `kind="store"` is the row of the heartbeat store. Workers are never run: what became of them
        is among the `transitions`.

        Raises:
            UnknownNameError: if there is none.
        """
        return self._engine.history(name, kind)

    def transitions(self) -> tuple[Transition, ...]:
        """Return the last 50 changes of state that this process saw, the oldest first.

        A first verdict is one too. Those of a check that was unregistered are no more.
        """
        return self._engine.transitions.read()

    def add_listener(self, listener: Listener) -> None:
        """Have `listener` told of every transition, in order, on a thread of ours.

        A first verdict is one too. One that raises is logged, one that hangs misses some, and up to
        63 that hang hold up none of the others.

        Raises:
            InvalidOptionError: if it is not callable.
        """
        self._engine.listeners.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Tell `listener` no more; do nothing if it was not told before."""
        self._engine.listeners.remove(listener)


_instances: Instances[HealthRegistry] = Instances()
at_fork(_instances.begin_process)
