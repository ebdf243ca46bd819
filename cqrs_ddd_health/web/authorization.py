"""Who sees everything, where `CQRS_HEALTH_DETAIL` is `authorized`: by a token, or by code."""

from __future__ import annotations

import asyncio
import hmac
import inspect
from asyncio import Task
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TypeAlias

from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.redaction import class_name
from cqrs_ddd_health.errors import InvalidOptionError, SettingsError
from cqrs_ddd_health.runtime.cancellation import cut_off, is_ctrl_c, retrieve
from cqrs_ddd_health.runtime.forking import at_fork, notice_fork
from cqrs_ddd_health.runtime.readers import warn
from cqrs_ddd_health.runtime.tasks import start_task
from cqrs_ddd_health.runtime.threads import DaemonThreads, run_on

from .request import Scope, bearer_token

__all__ = ["Authorizer", "Doorkeeper", "doorkeeper_of"]

Authorizer: TypeAlias = "Callable[[Scope], bool | Awaitable[bool]]"
"""Says whether whoever sent the request of that ASGI scope may see everything.

Only `True` lets in: one that raises, returns anything else, or takes longer than
`CQRS_HEALTH_HTTP_DEADLINE_SECONDS` means no. A sync one is called on a daemon thread.
"""

MAX_THREADS = 32
"""For sync authorizers: whoever comes while all of them hang is a stranger after the deadline."""
MAX_WAITING = 256
"""Askers who wait for one of these threads, or for an async one that ignores its end: whoever comes
then is a stranger at once."""
MAX_COMPLAINTS = 10
"""How many different reasons are logged."""


_threads = DaemonThreads(MAX_THREADS)
at_fork(_threads.reset)


def doorkeeper_of(settings: HealthSettings, authorizer: Authorizer | None) -> Doorkeeper | None:
    """Return who decides what an asker sees, or `None` where all see the same.

    Raises:
        InvalidOptionError: if the authorizer cannot be called.
        SettingsError: if there should be one, and nothing by which to decide.
    """
    if authorizer is not None and not callable(authorizer):
        raise InvalidOptionError(
            f"authorizer must be callable with an ASGI scope, got {type(authorizer).__name__}"
        )
    if settings.detail != "authorized":
        return None
    secret = settings.bearer_token
    if authorizer is None and secret is None:
        raise SettingsError(
            "CQRS_HEALTH_DETAIL is authorized, and nothing says who is: "
            "set CQRS_HEALTH_BEARER_TOKEN, or give an authorizer"
        )
    token = None if secret is None else secret.get_secret_value().encode()
    return Doorkeeper(authorizer, token, settings.http_deadline_seconds)


class Doorkeeper:
    """Lets in whoever has the token, or whom the authorizer lets in."""

    def __init__(
        self, authorizer: Authorizer | None, token: bytes | None, deadline_seconds: float
    ) -> None:
        self._authorizer = authorizer
        self._token = token
        self._deadline_seconds = deadline_seconds
        self._asked: set[Task[bool]] = set()
        self._overdue: set[Task[bool]] = set()  # cut off, and it may be that they never end
        self._complaints: set[str] = set()

    async def lets_in(self, scope: Scope) -> bool:
        """Whether the asker sees everything. Ends within the deadline and raises nothing."""
        notice_fork()
        if self._has_token(scope):
            return True
        return self._authorizer is not None and await self._is_let_in(self._authorizer, scope)

    def _has_token(self, scope: Scope) -> bool:
        given = bearer_token(scope)
        if given is None or self._token is None:
            return False
        return hmac.compare_digest(given, self._token)

    async def _is_let_in(self, authorizer: Authorizer, scope: Scope) -> bool:
        if len(self._overdue) >= MAX_WAITING:
            self._complain("too many calls of it do not end")
            return False
        task = start_task(self._say(authorizer, scope), "cqrs-health authorizer")
        self._asked.add(task)  # until it has ended, whenever that is
        task.add_done_callback(self._asked.discard)
        task.add_done_callback(retrieve)
        try:
            await asyncio.wait({task}, timeout=self._deadline_seconds)
        finally:
            if not task.done():
                cut_off(task)
                self._overdue.add(task)
                task.add_done_callback(self._overdue.discard)
        if not task.done():
            self._complain("it took too long")
            return False
        return not task.cancelled() and task.exception() is None and task.result()

    async def _say(self, authorizer: Authorizer, scope: Scope) -> bool:
        try:
            if not _is_async(authorizer) and _threads.waiting >= MAX_WAITING:
                self._complain("too many wait for it")
                return False
            return await _answer(authorizer, scope) is True
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # leaving a task some would end the loop
            if isinstance(error, KeyboardInterrupt) and is_ctrl_c():
                raise
            self._complain(class_name(error))
            return False

    def _complain(self, why: str) -> None:
        """Log why nobody is let in, once: askers are many, and may choose among the reasons."""
        if why in self._complaints or len(self._complaints) >= MAX_COMPLAINTS:
            return
        self._complaints.add(why)
        warn("the authorizer of the health paths says nothing: %s", why)


async def _answer(authorizer: Authorizer, scope: Scope) -> object:
    if _is_async(authorizer):
        answer: object = authorizer(scope)
    else:
        # In the context of the request, as if it was called right here.
        context = copy_context()
        answer = await run_on(_threads, lambda: context.run(authorizer, scope))
    return await answer if inspect.isawaitable(answer) else answer


def _is_async(authorizer: Authorizer) -> bool:
    return inspect.iscoroutinefunction(authorizer) or inspect.iscoroutinefunction(
        type(authorizer).__call__
    )
