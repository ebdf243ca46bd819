"""A check with a client of its own: made when it is first asked, and closed by whoever owns it."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cqrs_ddd_health.models import CheckResult
from cqrs_ddd_health.protocols import HealthCheck

from .endings import PATIENCE_SECONDS, close_in_time

__all__ = ["ConnectedCheck", "Connection"]


class Connection(NamedTuple):
    """A check of a client, and what closes the client."""

    check: HealthCheck
    close: Callable[[], Awaitable[object]]
    reconnects: bool = True
    """Whether the client finds its way back by itself; one that does not is made anew."""


class ConnectedCheck:
    """Connects when first asked, then asks the same client again and again.

    A client belongs to the event loop that made it, so each loop that asks has one of its own.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child: the sockets are the parent's, and stay open for it."""
        self._connections: WeakKeyDictionary[AbstractEventLoop, Connection] = WeakKeyDictionary()

    async def __call__(self) -> bool:
        """Return whether it is well; whatever was raised is swallowed."""
        try:
            return (await self.check()).state != "down"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return what the client's check returns; raises what connecting or asking raises."""
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            connection = self._connections[loop] = await self._connect()
        try:
            result = await connection.check.check()
        except BaseException:  # cut off in the middle too
            await self._give_up(loop, connection)
            raise
        if result.state == "down":
            await self._give_up(loop, connection)
        return result

    async def aclose(self) -> None:
        """Close the clients of all loops that still run. Asked again, it connects again."""
        connections, here = dict(self._connections), asyncio.get_running_loop()
        self._connections.clear()
        for loop, connection in connections.items():
            if loop is here:
                await close_in_time(connection.close)
            elif loop.is_running():
                await _close_elsewhere(loop, connection)

    async def _give_up(self, loop: AbstractEventLoop, connection: Connection) -> None:
        if not connection.reconnects and self._connections.get(loop) is connection:
            del self._connections[loop]
            await close_in_time(connection.close)


async def _close_elsewhere(loop: AbstractEventLoop, connection: Connection) -> None:
    closing = close_in_time(connection.close)
    try:
        closed = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, loop))
    except RuntimeError:  # the loop was closed just now, and its sockets with it
        closing.close()
        return
    # The loop may stop before it comes to it.
    await asyncio.wait({closed}, timeout=2 * PATIENCE_SECONDS)
