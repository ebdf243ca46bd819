"""The health paths for a process that has no web server, from a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrs_ddd_health.web.asgi import Authorizer, health_app

from .threaded import BackgroundServer

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["HealthServer"]


class HealthServer(BackgroundServer):
    """Answers the paths of `health_app` while it is entered, with `with` or `async with`.

    It answers from a thread of its own, also while the application's loop is busy, and refreshes
    the checks in the background meanwhile, as `HealthRegistry.running` does. Entered inside a
    running loop, it has async checks run on that loop, where their clients live, and watches it:
    ready is 503 once the loop has not answered for `CQRS_HEALTH_HTTP_DEADLINE_SECONDS`, and live
    once it has not for `CQRS_HEALTH_LIVE_STALL_SECONDS` (60; 0 is never). Entered elsewhere, around
    `asyncio.run` for one, it knows no such loop, and they are `pending` until the application has
    awaited a report once: prefer `async with` inside the application's coroutine.

    Leaving it takes a few seconds at the most, whatever clients, checks and the loop do. Left with
    a plain `with` on the loop that it was entered in, it cannot wait for what has to end on that
    loop, which ends as soon as the loop goes on: prefer `async with` there.

    Args:
        registry: what to answer for.
        host: the address to listen on, IPv4 or IPv6.
        port: the port to listen on, 0 for a free one; `port` and `url` tell which.
        authorizer: as in `health_app`.

    Raises:
        InvalidOptionError: if the host, the port or the authorizer can be none.
        SettingsError: as in `health_app`.
        ServerError: when entered, if it is entered already, or nobody can listen there.
    """

    def __init__(
        self,
        registry: HealthRegistry,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        authorizer: Authorizer | None = None,
    ) -> None:
        super().__init__(registry, health_app(registry, authorizer=authorizer), host, port)
