"""Any callable as a check: sync or async, plain, partial, bound, or an object with `check()`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from cqrs_ddd_health.domain.outcomes import outcome_of, outcome_of_error
from cqrs_ddd_health.domain.protocols import HealthCheck
from cqrs_ddd_health.errors import InvalidCheckError
from cqrs_ddd_health.runtime.threads import needs_loop, require_owner_loop, run_blocking

__all__ = ["Check", "asker_of", "is_loop_bound"]

Check: TypeAlias = "HealthCheck | Callable[[], object]"
"""What can be registered: a `HealthCheck`, or a callable of no arguments that returns anything
truthy or falsy, a `CheckResult`, or an awaitable of either."""


def asker_of(name: str, check: Check, *, blocking: bool = True) -> Callable[[], Awaitable[object]]:
    """Return the async function that asks `check`.

    A sync callable is run on a daemon thread unless `blocking` is false.

    Raises:
        InvalidCheckError: if it cannot be called, not without arguments, or is a class.
    """
    call = _callable_of(name, check)
    _require_no_arguments(name, call)
    plain = _without_partials(call)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise InvalidCheckError(f"check {name!r} is a generator, which calling does not run")
    if _is_async(plain):
        return call
    return _Sync(call, blocking=blocking)


def is_loop_bound(check: Check) -> bool | None:
    """Whether `check` may use what belongs to an event loop of the application.

    It says so itself by an attribute `loop_bound`, as the built-in checks do; otherwise a coroutine
    function may, and of any other callable it is not known: what it returns will tell.
    """
    plain = _without_partials(check) if callable(check) else check
    said: object = getattr(getattr(plain, "__self__", plain), "loop_bound", ...)
    if said is None or isinstance(said, bool):
        return said
    asked: Callable[..., Any] = check.check if isinstance(check, HealthCheck) else check
    return True if _is_async(_without_partials(asked)) else None


def _callable_of(name: str, check: object) -> Callable[..., Any]:
    if inspect.isclass(check):
        raise InvalidCheckError(
            f"check {name!r} is the class {check.__name__}, register an instance of it"
        )
    # Of what can be called, looked up on the class: a mock has every attribute and means none.
    typed = hasattr(type(check), "check") or not callable(check)
    method: object = getattr(check, "check", None) if typed else None
    for call in (method, check):
        if callable(call):
            return call
    if inspect.iscoroutine(check):
        check.close()  # it will never be awaited, and should not warn of that
    raise InvalidCheckError(
        f"check {name!r} is not callable but an instance of {type(check).__name__}; "
        "give a function, or an object with `async def check(self)`"
    )


def _require_no_arguments(name: str, call: Callable[..., object]) -> None:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return  # some callables written in C have none
    try:
        signature.bind()
    except TypeError as error:
        raise InvalidCheckError(
            f"check {name!r} must be callable without arguments: {error}; "
            "bind them with functools.partial"
        ) from None


def _without_partials(call: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(call, functools.partial):
        call = call.func
    return call


def _is_async(call: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(call):
        return True
    return inspect.iscoroutinefunction(type(call).__call__)


_NEEDS_LOOP = object()
"""What a sync callable came to that cannot be called where no event loop is running."""


class _Sync:
    """Asks a sync callable: on a thread, unless it may not block or turns out to need the loop."""

    def __init__(self, call: Callable[[], object], *, blocking: bool) -> None:
        self._call = call
        self._blocking = blocking

    async def __call__(self) -> object:
        if self._blocking:
            answer = await run_blocking(self._settled)
            if answer is not _NEEDS_LOOP:
                return answer
            self._blocking = False  # it gathers or makes tasks: it only returns an awaitable
            require_owner_loop()
        return self._call()

    def _settled(self) -> object:
        """Call, and read on the same thread what it returned or raised.

        To read a truth value, details, or the words of an exception may block too.
        """
        try:
            value = self._call()
            return value if inspect.isawaitable(value) else outcome_of(value)
        except BaseException as error:
            return _NEEDS_LOOP if needs_loop(error) else outcome_of_error(error)
