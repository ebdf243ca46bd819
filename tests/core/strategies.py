"""Any valid row, record or report, and any JSON, for property tests."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from cqrs_ddd_health.domain.details import Details, DetailValue
from cqrs_ddd_health.domain.fields import MAX_COUNT
from cqrs_ddd_health.domain.models import (
    ComponentKind,
    ComponentState,
    ComponentStatus,
    Failure,
    FailureKind,
    HealthReport,
    HeartbeatRecord,
    Probe,
    ServiceInfo,
    overall_status,
)

__all__ = [
    "component_states",
    "details",
    "failures",
    "heartbeats",
    "kinds_that_run",
    "moments",
    "names",
    "reports",
    "rows",
    "seconds",
    "texts",
    "utc_moments",
]

_UNSAFE = "\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_INVISIBLE = "\u00ad\u180e\u200b-\u200f\u2060-\u206f\ufeff"

names = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=_UNSAFE),
    min_size=1,
    max_size=128,
).filter(lambda name: bool(re.sub(f"[{_INVISIBLE}]", "", name).strip()))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=500)
class_names = st.from_regex(r"[A-Z][a-z]{0,20}Error", fullmatch=True)
seconds = st.floats(0, allow_infinity=False, allow_nan=False)
_LATENCIES = st.none() | seconds
component_states: st.SearchStrategy[ComponentState] = st.sampled_from(["up", "degraded", "down"])
component_kinds: st.SearchStrategy[ComponentKind] = st.sampled_from(["check", "worker", "store"])
kinds_that_run: st.SearchStrategy[ComponentKind] = st.sampled_from(["check", "store"])
probes: st.SearchStrategy[tuple[Probe, ...]] = st.lists(
    st.sampled_from(["live", "ready", "startup"])
).map(lambda chosen: tuple(_as_probe(name) for name in chosen))
failure_kinds: st.SearchStrategy[FailureKind] = st.sampled_from(
    [
        "falsy",
        "exception",
        "timeout",
        "hung",
        "stale",
        "missing",
        "pending",
        "unavailable",
        "reported",
    ]
)
# A day short of both ends, so that every offset has a UTC time.
_EARLIEST = datetime(1, 1, 2)  # noqa: DTZ001 - hypothesis wants the bounds naive
_LATEST = datetime(9999, 12, 30)  # noqa: DTZ001 - hypothesis wants the bounds naive
_OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(_EARLIEST, _LATEST, timezones=st.just(UTC) | _OFFSETS)
utc_moments = st.datetimes(_EARLIEST, _LATEST, timezones=st.just(UTC))

_SCALARS: st.SearchStrategy[DetailValue] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
_VALUES: st.SearchStrategy[DetailValue] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=10,
)
details = st.dictionaries(texts, _VALUES, max_size=4).map(Details)

failures = st.builds(
    Failure,
    kind=failure_kinds,
    exception_type=st.none() | class_names,
    message=st.none() | texts,
    since=moments,
)


def _as_probe(name: str) -> Probe:
    return "live" if name == "live" else "ready" if name == "ready" else "startup"


@st.composite
def rows(
    draw: st.DrawFn, kinds: st.SearchStrategy[ComponentKind] = component_kinds
) -> ComponentStatus:
    """Return any valid row: up and looked at, or not up and with a failure."""
    kind = draw(kinds)
    state = draw(component_states)
    checked_at = draw(moments) if state == "up" else draw(st.none() | moments)
    ran = checked_at is not None and kind != "worker"
    return ComponentStatus(
        name=draw(names),
        kind=kind,
        state=state,
        critical=kind != "store" and draw(st.booleans()),
        tags=tuple(draw(st.lists(names, max_size=3))),
        probes=draw(probes),
        since=draw(moments),
        checked_at=checked_at,
        latency_seconds=draw(_LATENCIES) if ran else None,
        failure=None if state == "up" else draw(failures),
        consecutive_failures=0 if state == "up" else draw(st.integers(0, MAX_COUNT)),
        details=draw(details),
    )


@st.composite
def heartbeats(
    draw: st.DrawFn, timestamp: datetime = datetime(2026, 1, 1, tzinfo=UTC)
) -> HeartbeatRecord:
    """Return any valid record of a report that was made at `timestamp`."""
    # Of at most a century: the record's last_seen has to be a date.
    age = draw(st.none() | st.floats(0, 3e9))
    timeout, interval = draw(seconds), draw(seconds)
    fresh = age is not None and timeout > 0 and age <= timeout + interval
    seen = None if age is None else timestamp - timedelta(seconds=age)
    return HeartbeatRecord(
        worker=draw(names),
        instance=draw(st.none() | names),
        state=draw(component_states) if fresh else draw(st.sampled_from(["degraded", "down"])),
        last_seen=seen,
        age_seconds=age,
        timeout_seconds=timeout,
        publish_interval_seconds=interval,
        phase=draw(st.none() | names),
        progress=draw(st.none() | st.integers(0, MAX_COUNT)),
    )


@st.composite
def reports(draw: st.DrawFn) -> HealthReport:
    """Return any valid report."""
    timestamp = draw(st.datetimes(datetime(1900, 1, 1), _LATEST, timezones=st.just(UTC)))  # noqa: DTZ001 - see above
    components = draw(st.lists(rows(), max_size=4, unique_by=lambda row: (row.kind, row.name)))
    return HealthReport(
        status=overall_status(components),
        components=tuple(components),
        heartbeats=tuple(draw(st.lists(heartbeats(timestamp), max_size=3))),
        heartbeats_omitted=draw(st.integers(0, 10**6)),
        timestamp=timestamp,
        duration_seconds=draw(seconds),
        draining=draw(st.booleans()),
        service=ServiceInfo(
            name=draw(st.none() | names),
            version=draw(st.none() | names),
            instance=draw(st.none() | names),
        ),
    )
