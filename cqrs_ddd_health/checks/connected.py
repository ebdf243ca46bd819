"""A check with a client of its own: made when it is first asked, and closed by whoever owns it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.protocols import HealthCheck
from cqrs_ddd_health.runtime.loop_local import PerLoop

__all__ = ["ConnectedCheck", "ConnectedClient"]


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

    loop_bound = False  # each loop that asks has a client of its own

    def __init__(self, connect: Callable[[], Awaitable[ConnectedClient]]) -> None:
        self._clients = PerLoop(connect, lambda client: client.close())

    def begin_process(self) -> None:
        """Start anew in a forked child: the sockets are the parent's, and stay open for it."""
        self._clients.begin_process()

    async def __call__(self) -> bool:
        """Return whether it is well; whatever was raised is swallowed."""
        try:
            return (await self.check()).state != "down"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return what the client's check returns; raises what connecting or asking raises."""
        client = await self._clients.get()
        try:
            result = await client.check.check()
        except BaseException:  # cut off in the middle too
            await self._give_up(client)
            raise
        if result.state == "down":
            await self._give_up(client)
        return result

    async def aclose(self) -> None:
        """Close the clients of all loops that still run. Asked again, it connects again."""
        await self._clients.aclose()

    async def _give_up(self, client: ConnectedClient) -> None:
        if not client.reconnects:
            await self._clients.drop(client)
