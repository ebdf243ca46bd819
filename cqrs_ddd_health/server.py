"""`cqrs-health serve` on uvicorn: told to leave, it says so for a while before it goes."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from .web.asgi import health_app

if TYPE_CHECKING:
    from .registry import HealthRegistry

__all__ = ["serve"]


def serve(registry: HealthRegistry, listener: socket.socket) -> None:
    """Answer on `listener` until a signal ends it.

    SIGTERM drains first: ready says no and live says yes for `CQRS_HEALTH_SERVE_DRAIN_SECONDS`, so
    that whoever watches it sends nothing more. SIGINT, and every further signal, ends it at once.
    """
    config = uvicorn.Config(health_app(registry), log_level="warning")
    _DrainingServer(config, registry).run(sockets=[listener])


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, registry: HealthRegistry) -> None:
        super().__init__(config)
        self._registry = registry
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        # uvicorn's own would have the signal kill the process in the end: a clean exit it is not.
        if sig == signal.SIGTERM and not self._registry.draining and self._loop is not None:
            self._registry.drain()
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._registry.settings.serve_drain_seconds, self._leave
            )
        else:
            self._leave()

    def _leave(self) -> None:
        self.should_exit = True
