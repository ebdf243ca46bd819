"""What an asker gets: which answer to which request, prepared once for all who may see the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cqrs_ddd_health.domain.models import HealthReport, Probe, overall_status
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.tasks import start_task

from . import responses as formats
from .authorization import Authorizer, doorkeeper_of
from .cache import Answers, Prepared
from .exposure import expose, expose_component
from .page.document import page
from .reports import Reports
from .request import Scope, accepted, tags_asked_for
from .responses import Answer

if TYPE_CHECKING:
    from cqrs_ddd_health.config.settings import Detail
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["COMPONENT", "CONTRACT", "METHODS", "ROUTES", "Responder", "prefix_of"]

_Format: TypeAlias = "Callable[[HealthReport], Answer]"

METHODS = ("GET", "HEAD")
CONTRACT = ("", "/live", "/ready")
"""Routes that are always there, say the same to everyone, and never ask who it is."""
COMPONENT = "/report/"
"""What the routes to a component begin with."""

_PROBES: Mapping[str, tuple[_Format, Probe | None]] = {
    "": (formats.status, None),
    "/live": (formats.live, "live"),
    "/ready": (formats.ready, "ready"),
    "/startup": (formats.ready, "startup"),
}
_REPORTS: Mapping[bytes, _Format] = {
    formats.JSON: formats.report,
    formats.HEALTH_JSON: formats.health_json,
}
# The first media type is for whoever says nothing.
_DETAILED = {"/report": tuple(_REPORTS), "/page": (formats.HTML,)}
ROUTES = (*_PROBES, *_DETAILED)

MAX_SELECTIONS = 64
"""How many answers to `?tag=` are kept: askers may combine the registered tags as they like."""


class _Key(NamedTuple):
    """What one prepared answer is the answer to. Nothing in it is a text of the asker's."""

    route: str
    detail: Detail
    media_type: bytes
    tags: frozenset[str]
    draining: bool


def prefix_of(text: str) -> str:
    """Return a prefix without the slash at its end.

    Raises:
        InvalidOptionError: if it could match no path.
    """
    prefix = text.rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise InvalidOptionError(f"prefix must be empty or begin with a slash, got {text!r}")
    return prefix


class Responder:
    """Answers for one registry, whatever framework asks.

    Raises:
        InvalidOptionError: if the authorizer cannot be called.
        SettingsError: if `CQRS_HEALTH_DETAIL` is `authorized` without a token and an authorizer.
    """

    def __init__(self, registry: HealthRegistry, authorizer: Authorizer | None) -> None:
        self._registry = registry
        self._doorkeeper = doorkeeper_of(registry.settings, authorizer)
        self.reports: Reports = Reports(registry)
        self._answers: Answers[Answer] = Answers(self._generation)
        self._selections: Answers[Answer] = Answers(self._generation, MAX_SELECTIONS)
        self._started: tuple[int, Answer] | None = None

    def _generation(self) -> int:
        return self._registry.generation

    def kept(self, keys: tuple[_Key, _Key]) -> Answer | None:
        """Return the answer that is kept for one of the usual requests, by its `usual_keys`."""
        kept = self._answers.kept(keys[self._registry.draining])
        return None if kept is None else kept.value

    def usual_keys(self, route: str) -> tuple[_Key, _Key]:
        """Return the keys of a route of the contract, without and with draining."""
        media_type = formats.JSON
        nothing = frozenset[str]()
        return (
            _Key(route, "safe", media_type, nothing, draining=False),
            _Key(route, "safe", media_type, nothing, draining=True),
        )

    def shows(self, route: str) -> bool:
        """Whether there is such a route, at this level of detail."""
        if route in CONTRACT:
            return True
        known = route in ROUTES or route.startswith(COMPONENT)
        return known and self._registry.settings.detail != "minimal"

    async def answer(self, route: str, scope: Scope) -> Answer:
        """Answer the request of that scope, of which `route` is the path below the prefix."""
        if not self.shows(route):
            return formats.not_found()
        if scope["method"] not in METHODS:
            return formats.method_not_allowed()
        if route == "/startup":
            return await self._startup()
        if route in _PROBES:
            return await self._probe(route)
        if route.startswith(COMPONENT):
            return await self._component(route.removeprefix(COMPONENT), scope)
        return await self._detailed(route, scope)

    async def _probe(self, route: str) -> Answer:
        form, probe = _PROBES[route]

        async def prepare() -> Prepared[Answer]:
            report, fresh_until = await self.reports.report(probe)
            return Prepared(form(expose(report, "safe")), fresh_until)

        key = self.usual_keys(route)[self._registry.draining]
        return (await self._answers.made(key, prepare)).value

    async def _startup(self) -> Answer:
        """Once it has started it has started: what breaks later is the business of ready."""
        generation = self._registry.generation
        if self._started is None or self._started[0] != generation:
            answer = await self._probe("/startup")
            self._started = (generation, answer) if answer.code == 200 else None
            return answer
        return self._started[1]

    async def _component(self, name: str, scope: Scope) -> Answer:
        # Out of the report that all share: whatever a stranger asks for asks no check anew, and
        # a name that is not there is kept nowhere.
        detail, (report, _) = await self._detail_and_report(scope)
        row = report.component(name) or report.component(name.rstrip("/"))
        if row is None:
            return formats.not_found()
        return formats.component(expose_component(row, detail))

    async def _detailed(self, route: str, scope: Scope) -> Answer:
        tags = tags_asked_for(scope)
        if tags is None or (tags and not tags <= self._registry.tags):
            return formats.not_found()
        media_type = accepted(scope, _DETAILED[route])
        detail, prepared = await self._detail_and_report(scope)
        answers = self._selections if tags else self._answers

        async def prepare() -> Prepared[Answer]:
            shown = expose(_selected(prepared.value, tags), detail)
            return Prepared(self._formatted(shown, media_type, detail), prepared.fresh_until)

        key = _Key(route, detail, media_type, tags, prepared.value.draining)
        return (await answers.made(key, prepare)).value

    def _formatted(self, shown: HealthReport, media_type: bytes, detail: Detail) -> Answer:
        if media_type == formats.HTML:
            return page(shown, self._registry, detail)
        return _REPORTS[media_type](shown)

    async def _detail_and_report(self, scope: Scope) -> tuple[Detail, Prepared[HealthReport]]:
        """Return what the asker may see, and of what; one is found out while the other is made."""
        if self._doorkeeper is None:
            return self._registry.settings.detail, await self.reports.report(None)
        is_let_in, report = await asyncio.gather(
            start_task(self._doorkeeper.lets_in(scope), "cqrs-health doorkeeper"),
            start_task(self.reports.report(None), "cqrs-health report"),
        )
        return "full" if is_let_in else "safe", report


def _selected(report: HealthReport, tags: frozenset[str]) -> HealthReport:
    """Return what `registry.report(tags=tags)` says, out of a report of everything."""
    if not tags:
        return report
    rows = tuple(row for row in report.components if not tags.isdisjoint(row.tags))
    return report.model_copy(update={"components": rows, "status": overall_status(rows)})
