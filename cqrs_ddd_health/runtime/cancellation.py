"""How what was begun comes to its end: on its own loop, within bounds, and with nothing left."""

from __future__ import annotations

import asyncio
import signal
import threading
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from inspect import iscoroutine
from typing import TypeVar

from .tasks import future_on, start_task

__all__ = [
    "PATIENCE_SECONDS",
    "close_in_time",
    "cut_off",
    "end_loop",
    "end_on",
    "end_tasks",
    "is_cancelled_from_outside",
    "is_ctrl_c",
    "loop_runner",
    "retrieve",
]

T = TypeVar("T")

PATIENCE_SECONDS = 1.0
"""How long a good-bye may take before a connection is dropped without one."""


async def close_in_time(close: Callable[[], Awaitable[object]]) -> None:
    """Await `close()`, whatever it raises; give up on one that hangs: its server may be frozen."""

    async def say_good_bye() -> None:
        await close()

    closing = start_task(say_good_bye(), "cqrs-health close")
    closing.add_done_callback(retrieve)
    try:
        await asyncio.wait({closing}, timeout=PATIENCE_SECONDS)
    finally:
        closing.cancel()


async def end_on(
    loop: AbstractEventLoop, ending: Callable[[], Coroutine[object, object, None]]
) -> None:
    """Run `ending()` on `loop`, unless that is not running; wait twice our patience for it."""
    if loop is asyncio.get_running_loop():
        await ending()
        return
    if not loop.is_running():
        return
    try:
        ended = future_on(loop, ending(), "cqrs-health end")
    except RuntimeError:  # it was closed just now, and what it had with it
        return
    ended.add_done_callback(retrieve)
    # The loop may stop before it comes to it.
    await asyncio.wait({ended}, timeout=2 * PATIENCE_SECONDS)


async def end_tasks(tasks: Sequence[Task[None]]) -> None:
    """Cancel tasks of this loop and see them end, as far as they do."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)


def end_loop(loop: AbstractEventLoop) -> None:
    """Close a loop that runs no more and what is left on it, also what ignores its cancellation."""
    tasks = list(asyncio.all_tasks(loop))
    if tasks:
        loop.run_until_complete(end_tasks(tasks))
        for task in tasks:
            if not task.done():
                cut_off(task)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@contextmanager
def loop_runner() -> Generator[asyncio.Runner]:
    """Have a runner that, other than `asyncio.run`, waits for no task that ignores its end."""
    runner = asyncio.Runner()
    try:
        yield runner
    finally:
        end_loop(runner.get_loop())


def cut_off(task: Task[T]) -> None:
    """Cancel a task whose time is up, and have no loop wait for it: it may never end."""
    if task.cancelling():
        # The loop is being ended, has cancelled it, and waits for it in vain: what it awaits is
        # ended by force, and it with the cancellation below.
        check: object = getattr(task.get_coro(), "cr_await", None)
        if iscoroutine(check):
            with suppress(RuntimeError):  # it ignores even that
                check.close()
    task.cancel()
    # `asyncio.run` ends only when all tasks that it knows have ended, and this one may never: it
    # may swallow its cancellation. So it is taken off the list, by the function that asyncio
    # documents for implementers of tasks (Extending, "Task lifetime support").
    asyncio._unregister_task(task)  # noqa: SLF001 - documented, see above
    # The report says that it hangs, and says it better than a warning at the end.
    object.__setattr__(task, "_log_destroy_pending", False)


def retrieve(ended: asyncio.Future[T]) -> None:
    """Look at what a task raised that nobody waits for: asyncio would log that nobody did."""
    if not ended.cancelled():
        ended.exception()


def is_cancelled_from_outside() -> bool:
    """Whether the running task was cancelled: else a `CancelledError` is of what it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt is the user's: nobody else has taken over SIGINT.

    `asyncio.run` and the servers turn Ctrl-C into a cancellation or a flag, so where they run a
    KeyboardInterrupt out of what they call is of its own making and only its failure.
    """
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
