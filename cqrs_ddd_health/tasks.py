"""Tasks of ours on whichever loop runs: made by asyncio, whatever makes those of the application.

A loop may have a task factory: one that knows neither names nor contexts, one that runs a task at
once and up to its end, or one that makes something else. None of them is asked for ours.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Task
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

__all__ = ["all_of", "start_task", "start_task_on"]

T = TypeVar("T")

_tasks: set[Task[object]] = set()  # a loop knows its tasks, and does not keep them


def start_task(
    coroutine: Coroutine[Any, Any, T], name: str, context: Context | None = None
) -> Task[T]:
    """Have the running loop run it, from its next turn on; in a copy of this context by default."""
    return Task(coroutine, loop=asyncio.get_running_loop(), name=name, context=context)


async def all_of(*coroutines: Coroutine[Any, Any, T], name: str) -> list[T]:
    """Run them at the same time and return what each returns; raise what the first raises."""
    return await asyncio.gather(*(start_task(coroutine, name) for coroutine in coroutines))


def start_task_on(
    loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, object], name: str
) -> Future[None]:
    """Have another loop run it. The future tells that it has ended, however that was.

    Raises:
        RuntimeError: if that loop is closed. The coroutine is closed too.
    """
    ended: Future[None] = Future()

    def start() -> None:
        task = Task(coroutine, loop=loop, name=name)
        _tasks.add(task)
        task.add_done_callback(partial(_tell, ended))

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        coroutine.close()
        raise
    return ended


def _tell(ended: Future[None], task: Task[object]) -> None:
    _tasks.discard(task)
    if not task.cancelled():
        task.exception()  # which asyncio would log if nobody looked at it
    if ended.set_running_or_notify_cancel():  # or whoever waited has left
        ended.set_result(None)
