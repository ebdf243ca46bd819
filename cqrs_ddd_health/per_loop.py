"""Clients that belong to an event loop: one for each that asks, made when it first does."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Lock
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from .endings import close_in_time, end_on
from .tasks import all_of

__all__ = ["PerLoop"]

T = TypeVar("T")

# In a child of a fork. Collected there, they would take their sockets out of the parent's epoll
# set: the two processes share it.
_left_to_the_parent: list[object] = []


class PerLoop(Generic[T]):
    """Opens a client for the running loop when it is first wanted there, and closes them all."""

    def __init__(
        self, open_client: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[object]]
    ) -> None:
        self._open = open_client
        self._close = close
        self._clients: dict[AbstractEventLoop, T] = {}
        self._opening: WeakKeyDictionary[AbstractEventLoop, Lock] = WeakKeyDictionary()

    def begin_process(self) -> None:
        """Start anew in a forked child: the sockets are the parent's, and stay open for it."""
        _left_to_the_parent.append((self._clients, self._opening))
        self._clients = {}
        self._opening = WeakKeyDictionary()

    async def get(self) -> T:
        """Return the running loop's client; raises what opening one raises.

        Of several who want it at once one opens it. Where that one is cancelled, or fails, the next
        one tries.
        """
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None:
            return client
        self._forget_closed_loops()
        async with self._opening.setdefault(loop, Lock()):
            client = self._clients.get(loop)
            if client is None:
                client = self._clients[loop] = await self._open()
            return client

    async def drop(self, client: T) -> None:
        """Close the running loop's client if it is that one; the next one who asks opens anew."""
        loop = asyncio.get_running_loop()
        if self._clients.get(loop) is client:
            del self._clients[loop]
            await close_in_time(partial(self._close, client))

    async def aclose(self) -> None:
        """Close the clients of all loops that still run. Wanted again, they are opened again."""
        clients, self._clients = self._clients, {}
        endings = (
            end_on(loop, partial(close_in_time, partial(self._close, client)))
            for loop, client in clients.items()
        )
        await all_of(*endings, name="cqrs-health close")

    def _forget_closed_loops(self) -> None:
        """Let go of clients that nobody can close any more, and of their sockets with them."""
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)
