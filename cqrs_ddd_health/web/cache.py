"""Prepared answers: one is made for everyone who asks meanwhile, and kept while it is young."""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context
from functools import partial
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from cqrs_ddd_health.runtime.tasks import start_task

__all__ = ["Answers", "Prepared"]


T = TypeVar("T")


class Prepared(NamedTuple, Generic[T]):
    """An answer, or what it is made of, and until when it may be given: monotonic seconds."""

    value: T
    fresh_until: float


class _Kept(NamedTuple, Generic[T]):
    prepared: Prepared[T]
    fresh_until: float
    """Seconds of the wall clock: the other one stands still while some machines sleep."""
    generation: int


class _OnOneLoop(Generic[T]):
    """What is in the making on one loop: tasks and futures belong to it."""

    def __init__(self) -> None:
        self.waiting: dict[Hashable, list[Future[Prepared[T] | None]]] = {}
        self.tasks: set[Task[Prepared[T]]] = set()


class Answers(Generic[T]):
    """Answers by key. The keys are the application's own, never made of what a request says.

    What was kept is of no use any more once `generation()` returns another number. Where askers may
    choose among very many keys, `limit` is how many are kept, the latest ones.
    """

    def __init__(self, generation: Callable[[], int], limit: int | None = None) -> None:
        self._generation = generation
        self._limit = limit
        self._kept: dict[Hashable, _Kept[T]] = {}
        self._loops: WeakKeyDictionary[AbstractEventLoop, _OnOneLoop[T]] = WeakKeyDictionary()

    def kept(self, key: Hashable) -> Prepared[T] | None:
        """Return what is kept for `key` while it is young enough."""
        entry = self._kept.get(key)
        if (
            entry is None
            or entry.prepared.fresh_until < time.monotonic()
            or entry.fresh_until < time.time()
            or entry.generation != self._generation()
        ):
            return None
        return entry.prepared

    async def made(self, key: Hashable, make: Callable[[], Awaitable[Prepared[T]]]) -> Prepared[T]:
        """Return what is kept, or what `make` makes, once for all who ask until it is made.

        It is made in a task of its own: that the first who asked hangs up is nothing to the others.
        """
        kept = self.kept(key)
        if kept is not None:
            return kept
        loop = asyncio.get_running_loop()
        here = self._loops.setdefault(loop, _OnOneLoop())
        future: Future[Prepared[T] | None] = loop.create_future()
        if key in here.waiting:
            here.waiting[key].append(future)
        else:
            task = start_task(_awaited(make), "cqrs-health answer", Context())
            here.waiting[key] = [future]
            here.tasks.add(task)
            task.add_done_callback(partial(self._end, here, key, self._generation()))
        prepared = await future
        # That the making was cancelled is nothing to those who wait for it either.
        return await make() if prepared is None else prepared

    def _end(
        self, here: _OnOneLoop[T], key: Hashable, generation: int, task: Task[Prepared[T]]
    ) -> None:
        """Tell all who wait; called by the task however it ended, before its first step too."""
        here.tasks.discard(task)
        waiting = [future for future in here.waiting.pop(key) if not future.done()]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            for future in waiting:
                future.set_exception(error)
            return
        prepared = None if task.cancelled() else task.result()
        if prepared is not None:
            self._keep(key, prepared, generation)
        for future in waiting:
            future.set_result(prepared)

    def _keep(self, key: Hashable, prepared: Prepared[T], generation: int) -> None:
        self._kept.pop(key, None)
        left = prepared.fresh_until - time.monotonic()
        self._kept[key] = _Kept(prepared, time.time() + left, generation)
        if self._limit is not None:
            for oldest in list(self._kept)[: -self._limit]:
                self._kept.pop(oldest, None)  # another loop may have done so


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()
