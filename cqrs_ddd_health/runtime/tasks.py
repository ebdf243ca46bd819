"""Tasks of ours, on the loop that runs or on another: made by asyncio, whatever makes others.

A loop may have a task factory: one that knows neither names nor contexts, one that runs a task at
once and up to its end, or one that makes something else. None of them is asked for ours.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

from .greenlets import Handover

__all__ = ["all_of", "future_on", "start_task", "wait_on"]

T = TypeVar("T")

_tasks: set[Task[Any]] = set()  # a loop knows its tasks, and does not keep them


def start_task(
    coroutine: Coroutine[Any, Any, T], name: str, context: Context | None = None
) -> Task[T]:
    """Have the running loop run it, from its next turn on; in a copy of this context by default."""
    return Task(coroutine, loop=asyncio.get_running_loop(), name=name, context=context)


async def all_of(*coroutines: Coroutine[Any, Any, T], name: str) -> list[T]:
    """Run them at the same time and return what each returns; raise what the first raises."""
    return await asyncio.gather(*(start_task(coroutine, name) for coroutine in coroutines))


def future_on(
    loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, T], name: str
) -> asyncio.Future[T]:
    """Have another loop run it; the future is of the running one, and cancels it with itself.

    Raises:
        RuntimeError: if that loop is closed. The coroutine is closed too.
    """
    here = asyncio.get_running_loop()
    answer: asyncio.Future[T] = here.create_future()

    def tell(task: Task[T]) -> None:
        with suppress(RuntimeError):  # it is closed, and who waited there is gone
            here.call_soon_threadsafe(_pass_on, task, answer)

    cancel = _start_on(loop, coroutine, name, tell)
    answer.add_done_callback(lambda _: cancel() if answer.cancelled() else None)
    return answer


def wait_on(loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Have a loop of another thread run it, block until it has, and return or raise what it does.

    Raises:
        RuntimeError: if that loop is closed. The coroutine is closed too.
    """
    ended: Handover[T] = Handover()
    cancel = _start_on(loop, coroutine, name, lambda task: ended.give(task.result))
    try:
        return ended.take()
    except BaseException:
        cancel()  # a Ctrl-C here must not leave the asker waiting over there
        raise


def _start_on(
    loop: AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    name: str,
    tell: Callable[[Task[T]], None],
) -> Callable[[], None]:
    """Have that loop run it, and tell of its end there; return what cancels it."""
    tasks: list[Task[T]] = []

    def start() -> None:
        task = Task(coroutine, loop=loop, name=name)
        tasks.append(task)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(_look_at)
        task.add_done_callback(tell)

    def cancel() -> None:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        coroutine.close()
        raise
    return cancel


def _look_at(task: Task[Any]) -> None:
    """Look at what it raised, which asyncio would log if nobody did."""
    if not task.cancelled():
        task.exception()


def _pass_on(task: Task[T], answer: asyncio.Future[T]) -> None:
    if answer.done():
        return
    error = None if task.cancelled() else task.exception()
    if task.cancelled():
        answer.cancel()
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
