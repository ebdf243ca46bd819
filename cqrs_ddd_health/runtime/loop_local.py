"""Clients that belong to an event loop: one for each that asks, made when it first does."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Lock
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from .cancellation import close_in_time, end_on
from .forking import leave_to_the_parent
from .tasks import all_of

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Opens a client for the running loop when it is first wanted there, and closes them all."""

    def __init__(
        self, open_client: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[object]]
    ) -> None:
        self._open = open_client
        self._close = close
        self._clients: dict[AbstractEventLoop, T] = {}
        self._opening: WeakKeyDictionary[AbstractEventLoop, Lock] = WeakKeyDictionary()
        self._lent: dict[AbstractEventLoop, list[T]] = {}
        """The clients that are being used, one for each use, the exchanged ones too."""

    def begin_process(self) -> None:
        """Start anew in a forked child: the sockets are the parent's, and stay open for it."""
        leave_to_the_parent((self._clients, self._opening, self._lent))
        self._clients = {}
        self._opening = WeakKeyDictionary()
        self._lent = {}

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

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[T]:
        """Have the running loop's client used while the block lasts, even if it is exchanged."""
        client = await self.get()
        loop = asyncio.get_running_loop()
        lent = self._lent.setdefault(loop, [])
        lent.append(client)
        try:
            yield client
        finally:
            _remove(lent, client)
            if self._lent.get(loop) is lent:  # else this is a child, and the client the parent's
                if not lent:
                    del self._lent[loop]
                if self._clients.get(loop) is not client:
                    await self._close_unused(loop, client)

    async def exchange(self) -> None:
        """Have the next one who asks open anew; who uses the running loop's client may go on."""
        loop = asyncio.get_running_loop()
        client = self._clients.pop(loop, None)
        if client is not None:
            await self._close_unused(loop, client)

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

    async def _close_unused(self, loop: AbstractEventLoop, client: T) -> None:
        """Close a client that was exchanged, unless somebody still uses it, who closes it then."""
        if not any(other is client for other in self._lent.get(loop, ())):
            await close_in_time(partial(self._close, client))

    def _forget_closed_loops(self) -> None:
        """Let go of clients that nobody can close any more, and of their sockets with them."""
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


def _remove(clients: list[T], client: T) -> None:
    """Take one of them out that is the very same: clients may say that they equal others."""
    del clients[next(place for place, other in enumerate(clients) if other is client)]
