"""The report as an ASGI application, for any server and to be mounted in any framework."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, TypeAlias, cast

from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.exposure import expose
from cqrs_ddd_health.models import HealthReport, Probe

from . import formats
from .answers import Answers, Prepared
from .formats import Answer
from .page import page

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["HealthApp", "health_app"]

Message: TypeAlias = "MutableMapping[str, object]"
Scope: TypeAlias = "MutableMapping[str, object]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"
_Format: TypeAlias = "Callable[[HealthReport], Answer]"

_ROUTES: dict[str, tuple[_Format, Probe | None]] = {
    "": (formats.status, None),
    "/live": (formats.live, "live"),
    "/ready": (formats.ready, "ready"),
    "/startup": (formats.ready, "startup"),
    "/report": (formats.report, None),
}
_MINIMAL = frozenset({"", "/live", "/ready"})
_COMPONENT = "/report/"
_UNUSUAL = frozenset({None, "/startup"})  # not there, and with a rule of its own


def health_app(registry: HealthRegistry, *, prefix: str = "/health") -> HealthApp:
    """Return an ASGI application that answers for `registry` under `prefix`.

    `GET` and `HEAD` of `/health`, `/health/live`, `/health/ready`, `/health/startup`,
    `/health/report`, `/health/report/{component}` and `/health/page`; 404 for other paths, 405 for
    other methods. An answer is at most `CQRS_HEALTH_HTTP_MAX_AGE_SECONDS` old and given within
    `CQRS_HEALTH_HTTP_DEADLINE_SECONDS`, whatever the checks do; `CQRS_HEALTH_DETAIL` says how much
    of it strangers see. While the registry is `running()`, as it is between the startup and the
    shutdown of a server that speaks the lifespan protocol, nobody who asks starts a check: the
    answer is what the background refresh found last.

    Raises:
        InvalidOptionError: if the prefix could match no path.
    """
    if prefix.rstrip("/") and not prefix.startswith("/"):
        raise InvalidOptionError(f"prefix must be empty or begin with a slash, got {prefix!r}")
    return HealthApp(registry, prefix)


class HealthApp:
    """The application that `health_app` returns."""

    def __init__(self, registry: HealthRegistry, prefix: str) -> None:
        self._registry = registry
        self._prefix = prefix.rstrip("/")
        self._answers: Answers[Answer] = Answers()
        self._reports: Answers[HealthReport] = Answers()
        self._started: Answer | None = None
        self._forms = {**_ROUTES, "/page": (self._page, None)}
        # What is asked all the time, by its whole path: mostly the answer is there already. Its
        # key without and with draining.
        self._usual = {
            self._prefix + route: ((route, False), (route, True))
            for route in self._forms
            if self._route(self._prefix + route) not in _UNUSUAL
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's lifespan."""
        if scope["type"] == "http":
            answer = self._kept(scope) or await self._answer(_path(scope), scope["method"])
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
        kept = self._answers.kept(keys[self._registry.draining])
        return None if kept is None else kept.value

    async def _answer(self, path: str, method: object) -> Answer:
        route = self._route(path)
        if route is None:
            return formats.not_found()
        if method not in {"GET", "HEAD"}:
            return formats.method_not_allowed()
        if route.startswith(_COMPONENT):
            return await self._component(route.removeprefix(_COMPONENT))
        if route == "/startup":
            return await self._startup()
        return await self._prepared(route)

    def _route(self, path: str) -> str | None:
        """Return what of the path says what is asked, or `None` if there is no such thing."""
        if not path.startswith(self._prefix):
            return None
        below = path[len(self._prefix) :]
        route = below.rstrip("/")
        known = route in self._forms or route.startswith(_COMPONENT)
        hidden = self._registry.settings.detail == "minimal" and route not in _MINIMAL
        if hidden or not known:
            return None
        return below if route.startswith(_COMPONENT) else route  # a name may end in a slash

    async def _prepared(self, route: str) -> Answer:
        form, probe = self._forms[route]
        key = route, self._registry.draining
        return (await self._answers.made(key, lambda: self._prepare(form, probe))).value

    async def _startup(self) -> Answer:
        """Once it has started it has started: what breaks later is the business of ready."""
        if self._started is None:
            answer = await self._prepared("/startup")
            self._started = answer if answer.code == 200 else None
            return answer
        return self._started

    async def _component(self, name: str) -> Answer:
        # Out of the report that all share: whatever a stranger asks for asks no check anew, and
        # a name that is not there is kept nowhere.
        report = (await self._report(None)).value
        row = report.component(name) or report.component(name.rstrip("/"))
        return formats.not_found() if row is None else formats.component(row)

    async def _prepare(self, form: _Format, probe: Probe | None) -> Prepared[Answer]:
        report, fresh_until = await self._report(probe)
        return Prepared(form(report), fresh_until)

    def _page(self, shown: HealthReport) -> Answer:
        return page(shown, self._registry, self._registry.settings.detail)

    async def _report(self, probe: Probe | None) -> Prepared[HealthReport]:
        key = probe, self._registry.draining
        return await self._reports.made(key, lambda: self._ask(probe))

    async def _ask(self, probe: Probe | None) -> Prepared[HealthReport]:
        settings = self._registry.settings
        report = await self._registry.report(
            probe=probe,
            max_age_seconds=settings.http_max_age_seconds,
            deadline_seconds=settings.http_deadline_seconds,
            refreshed=True,
        )
        age = 0.0 if self._registry.refreshing else _age_seconds(report)
        fresh_for = settings.http_max_age_seconds - age
        return Prepared(expose(report, settings.detail), time.monotonic() + max(fresh_for, 0.0))

    async def _follow_lifespan(self, receive: Receive, send: Send) -> None:
        """Refresh in the background while the server runs."""
        await receive()  # nothing but the startup
        async with self._registry.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # nothing but the shutdown
        await send({"type": "lifespan.shutdown.complete"})


def _path(scope: Scope) -> str:
    """Return the path below the mount point; ASGI has `path` include `root_path`."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def _age_seconds(report: HealthReport) -> float:
    """Return how old the oldest outcome in the report is; what hangs or waits is as of now."""
    outcomes = (
        (report.timestamp - row.checked_at).total_seconds()
        for row in report.components
        if row.checked_at is not None and not (row.failure and row.failure.kind == "hung")
    )
    return max((0.0, *outcomes))  # never negative, whatever the wall clock did meanwhile
