"""`/metrics`: for Prometheus, in the format that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cqrs_ddd_health.runtime.readers import warn
from cqrs_ddd_health.runtime.threads import run_blocking

from . import responses as formats
from .cache import Answers, Prepared
from .reports import Reports
from .request import Receive, Scope, Send, accepted, path_below_mount
from .responder import METHODS
from .responses import Answer

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["METRICS", "Encode", "Metrics", "MetricsApp"]

METRICS = "/metrics"

Encode: TypeAlias = "Callable[[bytes], bytes]"
"""From the media type, `formats.PLAIN` or `formats.OPENMETRICS`, to the metrics as they are now."""


class Metrics:
    """Answers for one registry, or for all that `encode` encodes.

    A report is asked for first, within the limits of all answers: under `running()` no check is run
    for it, and elsewhere at most once in `CQRS_HEALTH_HTTP_MAX_AGE_SECONDS`, whoever scrapes.
    """

    def __init__(
        self, registry: HealthRegistry, reports: Reports, encode: Encode | None = None
    ) -> None:
        self._registry = registry
        self._reports = reports
        self._encode = encode
        self._is_missing = False
        self._answers: Answers[Answer] = Answers(lambda: registry.generation)

    async def answer(self, scope: Scope) -> Answer:
        """Answer the request of that scope: with 404 if prometheus_client is not installed."""
        if scope["method"] not in METHODS:
            return formats.method_not_allowed()
        encode = self._encode or self._found()
        if encode is None:
            return formats.not_found()
        media_type = accepted(scope, (formats.PLAIN, formats.OPENMETRICS))

        async def prepare() -> Prepared[Answer]:
            _, fresh_until = await self._reports.report(None)
            # On a thread: of thousands of names it takes longer than a probe should wait.
            body = await run_blocking(partial(encode, media_type))
            return Prepared(formats.metrics(body, media_type), fresh_until)

        return (await self._answers.made(media_type, prepare)).value

    def _found(self) -> Encode | None:
        """Return how to encode them; only whoever is scraped needs the library."""
        if self._is_missing:
            return None
        try:
            from .collector import HealthCollector, encoded
        except ImportError as error:
            self._is_missing = True
            warn("%s is not found: %s", METRICS, error)
            return None
        self._encode = partial(encoded, HealthCollector(self._registry))
        return self._encode


class MetricsApp:
    """An ASGI application that answers `/metrics` and nothing else, at every level of detail."""

    def __init__(self, registry: HealthRegistry, encode: Encode) -> None:
        self._metrics = Metrics(registry, Reports(registry), encode)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_there = path_below_mount(scope) == METRICS
        answer = await self._metrics.answer(scope) if is_there else formats.not_found()
        body = b"" if scope["method"] == "HEAD" else answer.body
        headers = list(answer.headers)
        await send({"type": "http.response.start", "status": answer.code, "headers": headers})
        await send({"type": "http.response.body", "body": body})
