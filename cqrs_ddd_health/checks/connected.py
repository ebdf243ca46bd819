"""A check with a client of its own: made when it is first asked, and closed by whoever owns it."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from cqrs_ddd_health.endings import close_in_time, end_on
from cqrs_ddd_health.models import CheckResult
from cqrs_ddd_health.protocols import HealthCheck

__all__ = ["ConnectedCheck", "ConnectedClient"]

# In a child of a fork. Collected there, they would take their sockets out of the parent's epoll
# set: the two processes share it.
_left_to_the_parent: list[object] = []


class ConnectedClient(NamedTuple):
    """A client that is connected, as the check of it and what closes it."""

    check: HealthCheck
    close: Callable[[], Awaitable[object]]
    reconnects: bool = True
    """Whether the client finds its way back by itself; one that does not is made anew."""


class ConnectedCheck:
    """Connects when first asked, then asks the same client again and again.

    A client belongs to the event loop that made it, so each loop that asks has one of its own.
    """

    def __init__(self, connect: Callable[[], Awaitable[ConnectedClient]]) -> None:
        self._connect = connect
        self._clients: dict[AbstractEventLoop, ConnectedClient] = {}

    def begin_process(self) -> None:
        """Start anew in a forked child: the sockets are the parent's, and stay open for it."""
        _left_to_the_parent.append(self._clients)
        self._clients = {}

    async def __call__(self) -> bool:
        """Return whether it is well; whatever was raised is swallowed."""
        try:
            return (await self.check()).state != "down"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return what the client's check returns; raises what connecting or asking raises."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            self._forget_closed_loops()
            client = self._clients[loop] = await self._connect()
        try:
            result = await client.check.check()
        except BaseException:  # cut off in the middle too
            await self._give_up(loop, client)
            raise
        if result.state == "down":
            await self._give_up(loop, client)
        return result

    async def aclose(self) -> None:
        """Close the clients of all loops that still run. Asked again, it connects again."""
        clients, self._clients = self._clients, {}
        await asyncio.gather(
            *(
                end_on(loop, partial(close_in_time, client.close))
                for loop, client in clients.items()
            )
        )

    def _forget_closed_loops(self) -> None:
        """Let go of clients that nobody can close any more, and of their sockets with them."""
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)

    async def _give_up(self, loop: AbstractEventLoop, client: ConnectedClient) -> None:
        if not client.reconnects and self._clients.get(loop) is client:
            del self._clients[loop]
            await close_in_time(client.close)
