"""`cqrs-health serve` on uvicorn: told to leave, it says so for a while before it goes."""

from __future__ import annotations

import socket
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from .draining import drain_on_sigterm
from .web.asgi import health_app

if TYPE_CHECKING:
    from .registry import HealthRegistry

__all__ = ["serve"]


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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        # uvicorn's own would have the signal kill the process in the end: a clean exit it is not.
        self.should_exit = True
