"""The report as a page for people: one file, with nothing from elsewhere.

It says what is broken first, then how everything is, then what has changed. States are words and
shapes as well as colours. Its script asks for the page again and changes only what is new; without
it the browser loads the page again.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote
from zlib import crc32

from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.domain.evaluation import worst
from cqrs_ddd_health.domain.models import (
    ComponentState,
    ComponentStatus,
    Failure,
    HealthReport,
    HeartbeatRecord,
    severity,
)
from cqrs_ddd_health.domain.transitions import Transition
from cqrs_ddd_health.engine.history import PastResult
from cqrs_ddd_health.errors import UnknownNameError
from cqrs_ddd_health.web import responses as formats
from cqrs_ddd_health.web.exposure import expose_transition
from cqrs_ddd_health.web.responses import Answer

from .sparkline import sparkline

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["page"]

MAX_BROKEN = 12
"""How many components are named at the top; the rest is below as all are."""

MAX_NEWS = 20
"""How many transitions are shown."""


def page(shown: HealthReport, registry: HealthRegistry, detail: Detail) -> Answer:
    """`/health/page`: for people.

    `shown` has been cut down to `detail` already; so is what `registry` remembers.
    """
    rows = sorted(shown.components, key=_badness, reverse=True)
    sections = (
        _hero(shown),
        _broken([row for row in rows if row.state != "up"], shown.timestamp),
        _checks([row for row in rows if row.kind != "worker"], registry, shown.timestamp),
        _workers(shown, {row.name: row for row in rows if row.kind == "worker"}),
        _news(shown, registry, detail),
    )
    filled = _PAGE.substitute(
        title=escape(f"{shown.status}: {_service(shown)}"),
        icon=_icon(shown.status),
        main=f'<main id=main data-status="{shown.status}">{"".join(sections)}</main>',
    )
    return formats.html(filled.encode(), *_HEADERS)


_TEXT = files("cqrs_ddd_health.web.page").joinpath("page.html").read_text("utf-8")
_PAGE = Template(_TEXT)


def _hash_of(element: str) -> str:
    """Return how a Content-Security-Policy names the one such element of the page."""
    found = re.search(f"<{element}>(.*?)</{element}>", _TEXT, re.DOTALL)
    return f"'sha256-{b64encode(sha256((found[1] if found else '').encode()).digest()).decode()}'"


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash_of('style')}",
        f"script-src {_hash_of('script')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

# Drawn on 24 by 24: a tick, an exclamation mark in a triangle, a cross in an octagon.
_SHAPES = {
    "healthy": "M12 2a10 10 0 1 0 .01 0M7 12.5l3.4 3.4 6.6-7",
    "degraded": "M12 2.5 23 21.5H1zM12 9v6m0 2.4v1.4",
    "unhealthy": "M8 2h8l6 6v8l-6 6H8l-6-6V8zM8.5 8.5l7 7m0-7-7 7",
}
_COLOURS = {"healthy": "#146c34", "degraded": "#b26a00", "unhealthy": "#b3231c"}
_WHY = {
    "falsy": "falsy: the check said no",
    "exception": "exception",
    "timeout": "timeout: it took too long",
    "hung": "hung: it was cut off and has not ended",
    "stale": "stale: the last beat is too old",
    "missing": "missing: not all that are expected were seen",
    "pending": "pending: it has not answered yet",
    "unavailable": "unavailable: nobody could look",
    "reported": "reported by the check itself",
}


def _icon(status: str) -> str:
    """Return the tab's icon as a data URL: the shape on its colour."""
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 28 28"><path d="{_SHAPES[status]}"'
        f' fill="none" stroke="{_COLOURS[status]}" stroke-width="3"/></svg>'
    )
    return f"data:image/svg+xml,{quote(drawn, safe='/:= ')}".replace(" ", "%20")


def _service(shown: HealthReport) -> str:
    return shown.service.name or "This service"


def _badness(row: ComponentStatus) -> tuple[int, bool]:
    return severity(row.state), row.critical and row.state != "up"


def _hero(shown: HealthReport) -> str:
    service = shown.service
    up = sum(row.state == "up" for row in shown.components)
    words = (
        f"As of {_time(shown.timestamp)}",
        f"{up} of {len(shown.components)} up" if shown.components else "nothing is registered",
        service.version and f"version {_name(service.version)}",
        service.instance and _name(service.instance),
        "<b>draining: it is leaving, and not ready</b>" if shown.draining else "",
    )
    return (
        f'<section id=hero class="{shown.status}"><svg viewBox="0 0 24 24" aria-hidden="true"'
        f' stroke=currentColor stroke-width=2><path d="{_SHAPES[shown.status]}"/></svg>'
        f"<h1>{_name(_service(shown))} is <strong>{shown.status}</strong></h1>"
        f"<p>{' · '.join(word for word in words if word)}</p></section>"
    )


def _broken(rows: Sequence[ComponentStatus], at: datetime) -> str:
    if not rows:
        return ""
    items = "".join(
        f"<li data-k={_key(row)} class={row.state}>{_state(row.state)}"
        f"<div><b>{_name(row.name)}</b>{_reason(row, at)}</div>"
        for row in rows[:MAX_BROKEN]
    )
    more = len(rows) - MAX_BROKEN
    rest = f"<p>and {more} more, below.</p>" if more > 0 else ""
    return (
        '<section id=broken data-k="broken"><h2>What is not up, and since when</h2>'
        f"<ul>{items}</ul>{rest}</section>"
    )


def _checks(rows: Sequence[ComponentStatus], registry: HealthRegistry, at: datetime) -> str:
    body = "".join(_check(row, _results(registry, row), at) for row in rows)
    return _table("checks", "Components", ("Component", "State", "Latency, recent results"), body)


def _results(registry: HealthRegistry, row: ComponentStatus) -> Sequence[PastResult]:
    try:
        return registry.history(row.name, kind="store" if row.kind == "store" else "check")
    except UnknownNameError:  # it is required and not there, or was unregistered just now
        return ()


def _check(row: ComponentStatus, results: Sequence[PastResult], at: datetime) -> str:
    latency = "" if row.latency_seconds is None else _duration(row.latency_seconds)
    return (
        f"<tr data-k={_key(row)} class={row.state}>"
        f"<th scope=row>{_name(row.name)}{_since(row, at)}"
        f"<td>{_state(row.state)}<td><span>{latency}</span>{sparkline(results)}"
    )


def _workers(shown: HealthReport, rows: dict[str, ComponentStatus]) -> str:
    """The workers, the worst first, each with its instances."""
    instances: dict[str, list[HeartbeatRecord]] = {name: [] for name in rows}
    for record in shown.heartbeats:
        instances.setdefault(record.worker, []).append(record)
    body = "".join(
        _worker(name, rows.get(name), records, shown.timestamp)
        for name, records in instances.items()
    )
    omitted = shown.heartbeats_omitted
    more = f"<p>{omitted} more instances are not shown.</p>" if omitted else ""
    return _table("workers", "Workers", ("Worker", "State", "Last beat"), body, more)


def _worker(
    name: str, row: ComponentStatus | None, records: Sequence[HeartbeatRecord], at: datetime
) -> str:
    """The row of a worker, and one for each of its instances if it has not just one."""
    state = row.state if row else worst([record.state for record in records])
    since = _since(row, at) if row else ""
    key = f"{crc32(name.encode()):x}w"
    first = f"<tr data-k={key} class={state}><th scope=row>{_name(name)}"
    if len(records) == 1:
        doing = f"<small>{_doing(records[0])}</small>" if _doing(records[0]) else ""
        return f"{first}{doing}{since}<td>{_state(state)}<td>{_beat(records[0])}"
    fresh = sum(record.state == "up" for record in records)
    instances = "".join(
        f'<tr data-k={key}{number} class="{record.state} n"><th scope=row class=of>'
        f"{_doing(record) or f'instance {number}'}<td class=of>{_state(record.state)}"
        f"<td class=of>{_beat(record)}"
        for number, record in enumerate(records, 1)
    )
    return f"{first}{since}<td>{_state(state)}<td>{fresh} of {len(records)} fresh{instances}"


def _doing(record: HeartbeatRecord) -> str:
    """Which process it is and what it is at, as far as that may be seen."""
    words = (
        record.instance and _name(record.instance),
        record.phase and _name(record.phase),
        None if record.progress is None else f"at {record.progress}",
    )
    return ", ".join(word for word in words if word)


def _beat(record: HeartbeatRecord) -> str:
    if record.age_seconds is None:
        return "never seen"
    limit = record.timeout_seconds + record.publish_interval_seconds
    part = min(record.age_seconds / limit, 1.0) if limit else 1.0
    return (
        f"{_duration(record.age_seconds)} of {_duration(limit)}"
        '<svg class=b viewBox="0 0 96 6" preserveAspectRatio=none aria-hidden=true>'
        f'<path class=t d="M0 3h96"/><path class=f d="M0 3h{max(round(96 * part), 1)}"/></svg>'
    )


def _news(shown: HealthReport, registry: HealthRegistry, detail: Detail) -> str:
    """The last transitions of what is in the report, the latest first."""
    known = {(row.name, row.kind) for row in shown.components}
    seen = [one for one in registry.transitions() if (one.name, one.kind) in known]
    latest = [expose_transition(one, detail) for one in reversed(seen[-MAX_NEWS:])]
    body = "".join(_transition(one, shown.timestamp) for one in latest)
    return _table("news", "Last changes", ("Time (UTC)", "Component", "Change"), body)


def _transition(one: Transition, at: datetime) -> str:
    why = f"<small>{_why(one.failure)}</small>" if one.failure else ""
    before = f"{one.before} → " if one.before else "first seen "
    key = f"{crc32(f'{one.at}{one.kind}{one.name}'.encode()):x}n"
    return (
        f"<tr data-k={key} class={one.after}><td>{_time(one.at, at, '')}"
        f"<th scope=row>{_name(one.name)}<td>{before}{_state(one.after)}{why}"
    )


def _table(section: str, caption: str, columns: Iterable[str], body: str, more: str = "") -> str:
    """A section that is one table; `body` has its rows."""
    if not body:
        return f'<section id="{section}"><h2>{caption}</h2><p>none</p>{more}</section>'
    head = "".join(f"<th scope=col>{column}" for column in columns)
    return (
        f'<section id="{section}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</thead><tbody>{body}</tbody></table>{more}</section>"
    )


def _key(row: ComponentStatus) -> str:
    """Under which the script finds a row again, wherever it has moved to."""
    return f"{crc32(f'{row.kind}{row.name}'.encode()):x}"


def _name(text: str) -> str:
    """A name, whatever the direction of its letters."""
    return f"<bdi>{escape(text)}</bdi>"


def _state(state: ComponentState) -> str:
    return f"<span class=s>{state}</span>"


def _since(row: ComponentStatus, at: datetime) -> str:
    """Since when it is as it is, and why if it is not well."""
    if row.state != "up":
        return _reason(row, at)
    return f"<small>{_remarks(row)}since {_time(row.since, at)}</small>"


def _reason(row: ComponentStatus, at: datetime) -> str:
    """Since when it fails and why: a beat is too old before anybody looks."""
    failure = row.failure
    since = min(row.since, failure.since) if failure else row.since
    long = _duration(max(round((at - since).total_seconds()), 1))
    return (
        f"<small>{_remarks(row)}since {_time(since, at)}, for {long}</small>"
        f"<small>{_why(failure) if failure else ''}</small>"
    )


def _remarks(row: ComponentStatus) -> str:
    return "" if row.critical or row.kind == "store" else "not critical, "


def _why(failure: Failure) -> str:
    words = _WHY[failure.kind]
    if failure.exception_type:
        words += f" <bdi>{escape(failure.exception_type)}</bdi>"
    return words + (f": <bdi>{escape(failure.message)}</bdi>" if failure.message else "")


def _time(moment: datetime, at: datetime | None = None, zone: str = " UTC") -> str:
    """A moment in UTC, without the day where it is that of `at`."""
    same_day = at is not None and moment.date() == at.date()
    text = f"{moment:%H:%M:%S}" if same_day else f"{moment:%Y-%m-%d %H:%M:%S}"
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%S}Z">{text}{zone}</time>'


def _duration(seconds: float) -> str:
    """A duration in the unit in which it is easily read."""
    if seconds < 0.0001:
        return "&lt;\xa00.1\xa0ms"
    if seconds < 1:
        return f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f}\xa0ms"
    if seconds < 60:
        return f"{seconds:.3g}\xa0s"
    unit, size = next((unit, size) for unit, size in _UNITS if seconds >= 2 * size or size == 60)
    return f"{seconds / size:.0f}\xa0{unit}"


_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
