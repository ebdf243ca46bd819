"""What a registry offers to workers: to say that they live, and what is expected of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cqrs_ddd_health.domain.models import Probe
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.heartbeats.workers import BUSY
from cqrs_ddd_health.runtime.forking import IS_KNOWN, notice_fork

from .wiring import Engine

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["Beating"]

F = TypeVar("F", bound="Callable[..., object]")

IDLE = "idle"
"""The phase of a worker that has ended a step."""


class Beating:
    """The part of a registry that workers use."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._own_engine = engine
        self._plain_beats = engine.store.plain
        self._monotonic = clock.monotonic

    @property
    def _engine(self) -> Engine:
        """What it works with, which is begun anew here if this is a child of a fork."""
        notice_fork()
        return self._own_engine

    # Not keyword-only: CPython would call it without its fast path, which is half of the cost.
    def heartbeat(
        self,
        worker_name: str,
        timeout_seconds: float | None = None,
        instance: str | None = None,
        phase: str | None = None,
        progress: int | None = None,
    ) -> None:
        """Record that a worker is alive. Never blocks, does no I/O; any thread, loop or not.

        Args:
            worker_name: the worker; many processes may beat under one name.
            timeout_seconds: the age beyond which this beat is stale, for a step that takes long;
                the next beat is back to the registry's.
            instance: which of the worker's instances beats; this process by default.
            phase: what it is doing, in a word.
            progress: how much it has done, a count that grows.

        Raises:
            InvalidNameError: if a name cannot be shown safely.
            InvalidOptionError: if `timeout_seconds` or `progress` is negative or not a number.
        """
        if (
            timeout_seconds is None
            and instance is None
            and phase is None
            and progress is None
            and IS_KNOWN
        ):
            try:
                beat = self._plain_beats[worker_name]
            except (KeyError, TypeError):
                pass  # it is new, or cannot even be looked up; below it is told why
            else:
                beat.at = self._monotonic()
                return
        self._engine.store.beat(worker_name, instance, timeout_seconds, phase, progress)

    def expect(
        self,
        worker_name: str,
        *,
        min_instances: int = 1,
        probes: Iterable[Probe] | None = None,
        critical: bool = True,
        grace_seconds: float | None = None,
        instances: int | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        """Have a row for a worker whether it was seen or not: down until it is.

        Args:
            worker_name: the worker.
            min_instances: how many of its instances must be fresh.
            probes: what it gates; "ready" if it beats in this process, or else nothing.
            critical: whether its being down makes the report unhealthy.
            grace_seconds: how long its never having been seen is `pending` and not `missing`;
                the heartbeat timeout by default.
            instances: how many there should be; it is degraded while fewer are fresh.
            stall_seconds: how long an instance may be in phase "busy" without a change of its
                progress; it is degraded after.

        Raises:
            InvalidNameError: if the name cannot be shown safely.
            InvalidOptionError: if a number is out of its range or a probe unknown.
        """
        now = self._monotonic()
        self._engine.workers.expect(
            worker_name,
            min_instances,
            probes,
            grace_seconds,
            critical=critical,
            instances=instances,
            stall_seconds=stall_seconds,
            now=now,
        )

    def retire(self, worker_name: str, *, instance: str | None = None) -> None:
        """Say that a worker stopped on purpose: it leaves the report, and is no longer expected.

        With `instance`, only that one leaves. An unknown worker is no error.

        Raises:
            InvalidNameError: if a name cannot be shown safely.
        """
        require_name(worker_name, "worker")
        self._engine.retire(worker_name, instance)

    def beats(self, worker_name: str) -> Callable[[F], F]:
        """Return a decorator: each call that ends well is a beat of the worker.

        Of a function, sync or async. A generator, sync or async, beats with each item that it
        yields, and so for each turn of the loop over it.

        Raises:
            InvalidNameError: if the name cannot be shown safely.
        """
        require_name(worker_name, "worker")

        def decorate(function: F) -> F:
            return cast("F", _beating(function, lambda: self.heartbeat(worker_name)))

        return decorate

    @asynccontextmanager
    async def working(
        self, worker_name: str, *, timeout_seconds: float | None = None
    ) -> AsyncGenerator[None]:
        """Beat when a long step begins, in phase "busy", and when it ends well, in phase "idle".

        Args:
            worker_name: the worker.
            timeout_seconds: how long the step may take; the registry's heartbeat timeout by
                default. The beat at its end is back to that.

        Raises:
            InvalidNameError: if the name cannot be shown safely.
            InvalidOptionError: if `timeout_seconds` is negative or not a number.
        """
        self.heartbeat(worker_name, timeout_seconds=timeout_seconds, phase=BUSY)
        yield
        self.heartbeat(worker_name, phase=IDLE)


def _beating(function: Callable[..., Any], beat: Callable[[], None]) -> Callable[..., object]:
    if isasyncgenfunction(function):
        return _beating_items(function, beat)
    if isgeneratorfunction(function):

        @wraps(function)
        def each(*args: object, **kwargs: object) -> Generator[object, None, None]:
            for item in function(*args, **kwargs):
                beat()
                yield item

        return each
    if iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: object, **kwargs: object) -> object:
            result: object = await function(*args, **kwargs)
            beat()
            return result

        return awaited

    @wraps(function)
    def called(*args: object, **kwargs: object) -> object:
        result: object = function(*args, **kwargs)
        beat()
        return result

    return called


def _beating_items(function: Callable[..., Any], beat: Callable[[], None]) -> Callable[..., object]:
    @wraps(function)
    async def items(*args: object, **kwargs: object) -> AsyncGenerator[object, None]:
        async with aclosing(function(*args, **kwargs)) as generator:
            async for item in generator:
                beat()
                yield item

    return items
