"""The report as an ASGI application, for any server and to be mounted in any framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from . import responses as formats
from .authorization import Authorizer
from .metrics import METRICS, Metrics
from .request import Message, Receive, Scope, Send, path_below_mount
from .responder import COMPONENT, CONTRACT, Responder, prefix_of
from .responses import Answer

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["Authorizer", "HealthApp", "Message", "Receive", "Scope", "Send", "health_app"]


def health_app(
    registry: HealthRegistry, *, prefix: str = "/health", authorizer: Authorizer | None = None
) -> HealthApp:
    """Return an ASGI application that answers for `registry` under `prefix`.

    `GET` and `HEAD` of `/health`, `/health/live`, `/health/ready`, `/health/startup`,
    `/health/report`, `/health/report/{component}` and `/health/page`, and of `/metrics` for
    Prometheus where prometheus_client is installed (extra `prometheus`) and the detail is not
    `minimal`; 404 for other paths, 405 for other methods. An answer is at most
    `CQRS_HEALTH_HTTP_MAX_AGE_SECONDS` old and given within `CQRS_HEALTH_HTTP_DEADLINE_SECONDS`,
    whatever the checks do; `CQRS_HEALTH_DETAIL` says how much of it strangers see. While the
    registry is `running()`, as it is between the startup and the shutdown of a server that speaks
    the lifespan protocol, nobody who asks starts a check: the answer is what the background refresh
    found last.

    `/health/report?tag=a&tag=b` and the page are then about checks with one of these tags only;
    `/health/report` is `application/health+json` for whoever prefers that in `Accept`.

    Args:
        registry: whose report it is.
        prefix: what the paths begin with; empty if they begin with nothing.
        authorizer: says of the ASGI scope of a request, sync or async, whether the asker sees
            everything where `CQRS_HEALTH_DETAIL` is `authorized`; elsewhere it is not asked, nor
            ever for `/health`, `/health/live` and `/health/ready`, which show nothing more. Only
            `True` means yes: who raises or takes longer than the deadline has said no. A sync one
            is called on a daemon thread.

    Raises:
        InvalidOptionError: if the prefix could match no path, or the authorizer cannot be called.
        SettingsError: if `CQRS_HEALTH_DETAIL` is `authorized`, and there is neither an authorizer
            nor a `CQRS_HEALTH_BEARER_TOKEN`.
    """
    return HealthApp(registry, prefix, authorizer)


class HealthApp:
    """The application that `health_app` returns."""

    def __init__(
        self, registry: HealthRegistry, prefix: str, authorizer: Authorizer | None = None
    ) -> None:
        self._registry = registry
        self._prefix = prefix_of(prefix)
        self._responder = Responder(registry, authorizer)
        self._metrics = Metrics(registry, self._responder.reports)
        # What is asked all the time, by its whole path: mostly the answer is there already.
        self._usual = {
            self._prefix + route: self._responder.usual_keys(route) for route in CONTRACT
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's lifespan."""
        if scope["type"] == "http":
            answer = self._kept(scope) or await self._answer(scope)
            body = b"" if scope["method"] == "HEAD" else answer.body
            headers = list(answer.headers)  # one of its own: middleware adds to it
            await send({"type": "http.response.start", "status": answer.code, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        elif scope["type"] == "lifespan":
            await self._follow_lifespan(receive, send)
        else:
            await send({"type": "websocket.close"})

    def _kept(self, scope: Scope) -> Answer | None:
        """Return the answer that is kept for a usual request; any other takes the long way."""
        keys = self._usual.get(cast("str", scope["path"]))
        if keys is None or scope["method"] != "GET" or scope.get("root_path"):
            return None
        return self._responder.kept(keys)

    async def _answer(self, scope: Scope) -> Answer:
        path = path_below_mount(scope)
        if path == METRICS != self._prefix:
            is_shown = self._registry.settings.detail != "minimal"
            return await self._metrics.answer(scope) if is_shown else formats.not_found()
        if not path.startswith(self._prefix):
            return formats.not_found()
        below = path[len(self._prefix) :]
        is_component = below.startswith(COMPONENT) and below != COMPONENT
        # A name may end in a slash, or be one.
        route = below if is_component else below.rstrip("/")
        return await self._responder.answer(route, scope)

    async def _follow_lifespan(self, receive: Receive, send: Send) -> None:
        """Refresh in the background while the server runs."""
        await receive()  # nothing but the startup
        async with self._registry.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # nothing but the shutdown
        await send({"type": "lifespan.shutdown.complete"})
