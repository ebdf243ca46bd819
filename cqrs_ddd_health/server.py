"""`cqrs-health serve` on uvicorn: told to leave, it says so for a while before it goes."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from .draining import drain_on_sigterm
from .web.asgi import health_app

if TYPE_CHECKING:
    from .registry import HealthRegistry

__all__ = ["serve"]

GOOD_BYE_SECONDS = 2.0
"""How long a client may take to read what it asked for, once the server leaves."""


def serve(registry: HealthRegistry, listener: socket.socket) -> None:
    """Answer on `listener` until a signal ends it.

    SIGTERM drains first, for `CQRS_HEALTH_DRAIN_SECONDS`, as `drain_on_sigterm` says. SIGINT, and
    every further signal, ends it at once.
    """
    config = uvicorn.Config(health_app(registry), log_level="warning")
    _DrainingServer(config, registry).run(sockets=[listener])


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, registry: HealthRegistry) -> None:
        super().__init__(config)
        self._registry = registry

    async def main_loop(self) -> None:
        with drain_on_sigterm(self._registry):
            await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Otherwise whoever asks much and reads nothing keeps it for ever.
        asyncio.get_running_loop().call_later(GOOD_BYE_SECONDS, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        # uvicorn's own would have the signal kill the process in the end: a clean exit it is not.
        self.force_exit = self.should_exit  # the second time
        self.should_exit = True
