"""`cqrs-health serve`: a `HealthServer` in the foreground, which drains before it leaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from cqrs_ddd_health.runtime.cancellation import loop_runner
from cqrs_ddd_health.web.server.draining import drain_on_sigterm
from cqrs_ddd_health.web.server.health_server import HealthServer

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["serve"]


def serve(
    registry: HealthRegistry, host: str, port: int, announce: Callable[[HealthServer], None]
) -> None:
    """Answer until a signal ends it; `announce` is called as soon as it does.

    SIGTERM drains first, for `CQRS_HEALTH_DRAIN_SECONDS`, as `drain_on_sigterm` says. SIGINT, and
    every further signal, ends it at once. Async checks run on the loop of this thread.

    Raises:
        ServerError: if nobody can listen there.
        InvalidOptionError: if the host or the port can be none.
    """
    server = HealthServer(registry, host, port)
    with loop_runner() as runner:
        runner.run(_serve(registry, server, announce))


async def _serve(
    registry: HealthRegistry, server: HealthServer, announce: Callable[[HealthServer], None]
) -> None:
    loop, leave = asyncio.get_running_loop(), asyncio.Event()

    def be_told(_sign: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(leave.set)

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, be_told)
    async with server:
        announce(server)
        with drain_on_sigterm(registry):
            await leave.wait()
