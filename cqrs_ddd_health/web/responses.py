"""From a report to an answer: its code, headers and bytes. Functions only."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from cqrs_ddd_health.domain.contract import ready_dict, status_dict
from cqrs_ddd_health.domain.models import ComponentStatus, HealthReport
from cqrs_ddd_health.domain.wire import ErrorDict, LiveDict

from .health_json import health_json_dict

__all__ = [
    "HEALTH_JSON",
    "HTML",
    "JSON",
    "OPENMETRICS",
    "PLAIN",
    "Answer",
    "component",
    "health_json",
    "html",
    "live",
    "method_not_allowed",
    "metrics",
    "not_found",
    "ready",
    "refused",
    "report",
    "status",
]

JSON = b"application/json"
HEALTH_JSON = b"application/health+json"
HTML = b"text/html; charset=utf-8"
PLAIN = b"text/plain"
OPENMETRICS = b"application/openmetrics-text"
_VERSIONS = {PLAIN: b"0.0.4", OPENMETRICS: b"1.0.0"}


# No cache in between may keep an answer, and none may show it to whom it was not made for.
_COMMON_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept, Authorization"),
)
_ALLOW_HEADER = (b"allow", b"GET, HEAD")


class Answer(NamedTuple):
    """What goes out, whatever server sends it."""

    code: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def status(shown: HealthReport) -> Answer:
    """`/health`: is everything up?"""
    body = status_dict(shown)
    return _json(200 if body["status"] == "healthy" else 503, body)


def live(shown: HealthReport) -> Answer:
    """`/health/live`: does the process live? Only what gates live can say no."""
    alive = shown.status != "unhealthy"
    body: LiveDict = {"status": "alive" if alive else "dead"}
    return _json(200 if alive else 503, body)


def ready(shown: HealthReport) -> Answer:
    """`/health/ready` and `/health/startup`: may it get traffic, has it started?"""
    body = ready_dict(shown)
    return _json(200 if body["ready"] else 503, body)


def report(shown: HealthReport) -> Answer:
    """`/health/report`: what exactly?"""
    code = 503 if shown.status == "unhealthy" else 200
    return _answer(code, JSON, shown.model_dump_json().encode())


def health_json(shown: HealthReport) -> Answer:
    """`/health/report` for whoever accepts `application/health+json`."""
    code = 503 if shown.status == "unhealthy" else 200
    return _json(code, health_json_dict(shown), media_type=HEALTH_JSON)


def component(shown: ComponentStatus) -> Answer:
    """`/health/report/{component}`: one row of it."""
    code = 503 if shown.state == "down" else 200
    return _answer(code, JSON, shown.model_dump_json().encode())


def metrics(body: bytes, media_type: bytes) -> Answer:
    """`/metrics`: for Prometheus, in the one format or the other."""
    described = b"%b; version=%b; charset=utf-8" % (media_type, _VERSIONS[media_type])
    return _answer(200, described, body)


def not_found() -> Answer:
    """Whatever is not there, without an echo of what was asked for."""
    body: ErrorDict = {"error": "not found"}
    return _json(404, body)


def method_not_allowed() -> Answer:
    """Anything but GET and HEAD."""
    body: ErrorDict = {"error": "only GET and HEAD are allowed"}
    return _json(405, body, _ALLOW_HEADER)


def refused(code: int) -> Answer:
    """Whatever an HTTP server answers by itself: that it takes no such request, or has failed."""
    body: ErrorDict = {"error": HTTPStatus(code).phrase.lower()}
    return _json(code, body)


def html(body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    """A page: whatever it says, that it can be shown is 200."""
    return _answer(200, HTML, body, *headers)


def _json(
    code: int, body: object, *headers: tuple[bytes, bytes], media_type: bytes = JSON
) -> Answer:
    return _answer(code, media_type, json.dumps(body, separators=(",", ":")).encode(), *headers)


def _answer(code: int, media_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    described = (b"content-type", media_type), (b"content-length", b"%d" % len(body))
    return Answer(code, body, (*described, *_COMMON_HEADERS, *headers))
