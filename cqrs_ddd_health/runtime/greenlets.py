"""Threads, also in a process that gevent has patched, where those of `threading` are greenlets.

A loop of ours runs on a thread of the system there too. As a greenlet it would share a thread with
the application, and asyncio knows one running loop for each thread: the application could run none
of its own. What is the application's, as a check that is not async, stays a greenlet on its hub,
which its clients belong to.

Between the two stand locks of the system, held for moments in which no greenlet gives way, and what
wakes a hub from another thread: threads that meet at a lock of gevent's may wait for ever.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from _thread import RLock  # that of the system: gevent patches the one of `threading`
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

__all__ = [
    "Handover",
    "Joinable",
    "NoThreadsError",
    "RLock",
    "running_loop",
    "start_loop",
    "start_thread",
]

T = TypeVar("T")


class NoThreadsError(RuntimeError):
    """Raised where a thread would not run, or not be one: says why, and the way out."""


def running_loop() -> AbstractEventLoop | None:
    """Return the loop that runs this code, if one does.

    Where threads are greenlets, asyncio takes the loop of one of them for that of all.
    """
    loop = _loop_of_thread()
    here = threading.get_ident()
    return loop if getattr(loop, "_thread_id", here) == here else None


def _loop_of_thread() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Joinable(Protocol):
    """A thread that was started."""

    def is_alive(self) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...


def start_loop(
    make: Callable[[], AbstractEventLoop], run: Callable[[AbstractEventLoop], None], name: str
) -> tuple[AbstractEventLoop, Joinable]:
    """Make a loop on a thread of its own, which is `run` there, and return both.

    Raises:
        NoThreadsError: if it would be a greenlet in a thread where another one runs a loop.
        RuntimeError: if no thread can be had. And what `make` raises.
    """
    gevent = _gevent()
    if gevent is None and running_loop() is not _loop_of_thread():
        raise NoThreadsError(
            "threads are greenlets in this process (eventlet?), and another one of them runs an "
            "event loop: use gevent, or eventlet.monkey_patch(thread=False)"
        )
    # No greenlet may have its turn while this waits: callers hold locks.
    is_made = threading.Lock() if gevent is None else gevent.monkey.get_original(*_LOCK)()
    is_made.acquire()
    made: list[AbstractEventLoop | BaseException] = []

    def work() -> None:
        try:
            made.append(make())  # here: one of gevent's belongs to the thread that makes it
        except BaseException as error:
            made.append(error)
        is_made.release()
        if isinstance(made[0], AbstractEventLoop):
            run(made[0])

    thread = _started(work, name) if gevent is None else _RealThread(gevent, work)
    is_made.acquire()
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0], thread


def start_thread(target: Callable[[], None], name: str) -> None:
    """Call `target`, which may be the application's and may block, on a daemon thread.

    Raises:
        RuntimeError: if no thread can be had.
    """
    gevent = _gevent()
    if gevent is None:
        _started(target, name)
        return
    hub = _owners.get(gevent.get_hub())
    if hub is None:
        gevent.spawn(target)
    else:
        hub.loop.run_callback_threadsafe(gevent.spawn, target)


class Handover(Generic[T]):
    """What one thread hands over to others, or to greenlets, that wait for it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._result: Callable[[], T] | None = None
        self._sleeps: set[_ThreadSleep | _HubSleep] = set()

    def give(self, result: Callable[[], T]) -> None:
        """Hand over what `result` returns or raises when it is called by who takes it."""
        with self._lock:
            self._result = result
            for sleep in self._sleeps:
                sleep.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something was handed over, at most that many seconds; return whether it was.

        Where threads are greenlets, the others have their turn meanwhile.
        """
        gevent = _gevent()
        sleep = _ThreadSleep() if gevent is None else _HubSleep(gevent)
        try:
            with self._lock:
                self._sleeps.add(sleep)
                is_there = self._result is not None
            if not is_there:
                sleep.wait(timeout)
        finally:
            with self._lock:  # so that it is not woken just then
                self._sleeps.discard(sleep)
                sleep.close()
        return self._result is not None

    def take(self) -> T:
        """Wait for it, and return or raise it."""
        while self._result is None:
            self.wait()
        return self._result()


class _ThreadSleep:
    """One wait of a thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wait(self, timeout: float | None) -> None:
        self._event.wait(timeout)

    def wake(self) -> None:
        self._event.set()

    def close(self) -> None:
        """Do nothing: it holds nothing of the system's."""


def _started(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


# ------------------------------------------------------------------ what is used of gevent

_LOCK, _START = ("_thread", "allocate_lock"), ("_thread", "start_new_thread")


class _Watcher(Protocol):
    def start(self, callback: Callable[[], object], /) -> None: ...
    def send(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class _HubLoop(Protocol):
    def async_(self) -> _Watcher: ...
    def run_callback_threadsafe(
        self, callback: Callable[[Callable[[], None]], object], target: Callable[[], None], /
    ) -> object: ...


class _Hub(Protocol):
    @property
    def loop(self) -> _HubLoop: ...
    def destroy(self, *, destroy_loop: bool) -> None: ...
    def __hash__(self) -> int: ...


class _Monkey(Protocol):
    def is_module_patched(self, name: str, /) -> bool: ...
    def get_original(self, module: str, name: str, /) -> Callable[..., Any]: ...


class _Gevent(Protocol):
    @property
    def monkey(self) -> _Monkey: ...
    def get_hub(self) -> _Hub: ...
    def spawn(self, target: Callable[[], None], /) -> object: ...


def _gevent() -> _Gevent | None:
    """Return gevent if it has patched the threads of this process."""
    monkey = cast("_Monkey | None", sys.modules.get("gevent.monkey"))
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    return cast("_Gevent", sys.modules["gevent"])


_owners: WeakKeyDictionary[_Hub, _Hub] = WeakKeyDictionary()
"""To the hub of each thread of ours, the application's that started it."""


class _HubSleep:
    """One wait of a greenlet, which another thread may end."""

    def __init__(self, gevent: _Gevent) -> None:
        self._event = threading.Event()
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._event.set)  # the hub does not end while there is one

    def wait(self, timeout: float | None) -> None:
        self._event.wait(timeout)

    def wake(self) -> None:
        self._watcher.send()

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


class _RealThread:
    """A thread of the system, with a hub of its own."""

    def __init__(self, gevent: _Gevent, target: Callable[[], None]) -> None:
        self._gevent = gevent
        self._target = target
        self._ended: Handover[None] = Handover()
        # Before the thread begins: the first hub imports, and there is none to wait with for that.
        here = gevent.get_hub()
        owner = _owners.get(here, here)
        gevent.monkey.get_original(*_START)(self._work, (owner,))

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.wait(0)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, or for so many seconds."""
        self._ended.wait(timeout)

    def _work(self, owner: _Hub) -> None:
        hub = self._gevent.get_hub()
        _owners[hub] = owner
        try:
            self._target()
        finally:
            hub.destroy(destroy_loop=True)
            self._ended.give(lambda: None)  # not before: the process may end then
