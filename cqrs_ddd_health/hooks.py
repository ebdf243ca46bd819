"""Beats from the instrumentation of the toolkit: what is handled is the sign of life of a worker.

`cqrs_ddd_core` calls its hooks around every operation; it is not needed here, only what it calls:
a hook is `async __call__(operation, attributes, next_handler)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Protocol, TypeVar

from .domain.names import require_name
from .errors import InvalidOptionError
from .registry import HealthRegistry

__all__ = ["HeartbeatHook", "Hook", "HookRegistry", "register_heartbeat_hook"]

T = TypeVar("T")


class Hook(Protocol):
    """What the toolkit calls around an operation; it returns what `next_handler()` returns."""

    async def __call__(
        self,
        operation: str,
        attributes: Mapping[str, object],
        next_handler: Callable[[], Awaitable[object]],
        /,
    ) -> object: ...


class HookRegistry(Protocol):
    """What `cqrs_ddd_core.get_hook_registry()` returns, as far as it is used here."""

    def register(
        self, hook: Hook, *, priority: int = 0, operations: Sequence[str] | None = None
    ) -> object: ...


class HeartbeatHook:
    """Makes beats of operations.

    Args:
        workers: by pattern of an operation, `*` and `?` as in file names, the worker that lives if
            one is handled; the first pattern that matches counts.
        before: beat also when it begins, for handlers that take longer than the timeout.
        registry: the registry; the one of the process at each beat if not given.

    Raises:
        InvalidOptionError: if there is no pattern.
        InvalidNameError: if a worker's name cannot be shown safely.
    """

    def __init__(
        self,
        workers: Mapping[str, str],
        *,
        before: bool = False,
        registry: HealthRegistry | None = None,
    ) -> None:
        if not workers:
            raise InvalidOptionError("workers must name a worker for at least one operation")
        self._workers = {pattern: require_name(name, "worker") for pattern, name in workers.items()}
        self._before = before
        self._registry = registry

    @property
    def operations(self) -> tuple[str, ...]:
        """The patterns of the operations that it makes beats of."""
        return tuple(self._workers)

    async def __call__(
        self,
        operation: str,
        _attributes: Mapping[str, object],
        next_handler: Callable[[], Awaitable[T]],
        /,
    ) -> T:
        """Handle the operation, and beat if that raised nothing."""
        matching = (
            name for pattern, name in self._workers.items() if fnmatchcase(operation, pattern)
        )
        worker = next(matching, None)
        if worker is None:
            return await next_handler()
        registry = self._registry or HealthRegistry.get_instance()
        if self._before:
            registry.heartbeat(worker)
        result = await next_handler()
        registry.heartbeat(worker)
        return result


def register_heartbeat_hook(
    workers: Mapping[str, str],
    *,
    before: bool = False,
    priority: int = 0,
    registry: HealthRegistry | None = None,
    hooks: HookRegistry | None = None,
) -> HeartbeatHook:
    """Make a `HeartbeatHook`, register it for its operations, and return it.

    Args:
        workers: as `HeartbeatHook`, `{"outbox.worker.*": "outbox_worker"}`.
        before: as `HeartbeatHook`.
        priority: its place among the toolkit's hooks, as the toolkit means it.
        registry: as `HeartbeatHook`.
        hooks: where to register; `cqrs_ddd_core.get_hook_registry()` if not given.

    Raises:
        ImportError: if `hooks` is not given and `cqrs_ddd_core` is not installed.
        InvalidOptionError: as `HeartbeatHook`.
        InvalidNameError: as `HeartbeatHook`.
    """
    hook = HeartbeatHook(workers, before=before, registry=registry)
    if hooks is None:
        found: HookRegistry = import_module("cqrs_ddd_core").get_hook_registry()
        hooks = found
    hooks.register(hook, priority=priority, operations=list(hook.operations))
    return hook
