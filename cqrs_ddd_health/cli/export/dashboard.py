"""The dashboard: health, what fails meanwhile, and the logs and traces of one request, in one view.

What it asks Prometheus is of the metrics of `collector`; names of series are never taken apart, so
a component may be called anything.
"""

from __future__ import annotations

import json

from .panels import (
    Json,
    choice,
    colored,
    data_source,
    graph,
    heatmap,
    history,
    linked,
    logs,
    placed,
    source_of,
    stat,
    table,
    text_box,
    texts,
    thresholds,
)
from .values import DeployValues

__all__ = ["UID", "dashboard"]

UID = "cqrs-health"

_SERIES = 'job=~"$job", instance=~"$instance"'
_LINES = '{service_name="$service"}'
# One that hangs fails again without a run of its own.
_SHARE_OF_FAILED_RUNS = (
    'sum(rate(cqrs_health_check_failures_total{kind!="hung"}[5m]))'
    " / sum(rate(cqrs_health_check_duration_seconds_count[5m]))"
)
_STACKED: Json = {"mode": "normal", "group": "A"}
_STATES = {"up": "green", "degraded": "yellow", "down": "red"}


def dashboard(values: DeployValues) -> str:
    """Return the dashboard as Grafana imports and provisions it."""
    page: Json = {
        "uid": UID,
        "title": "Health",
        "description": "What is up, what is not and since when, and what it does to requests.",
        "tags": ["cqrs-ddd-health", "health"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "schemaVersion": 41,
        "templating": {"list": _variables(values)},
        "annotations": {"list": _annotations()},
        "links": [],
        "panels": list(placed(_rows(values.heartbeat_timeout_seconds))),
    }
    return json.dumps(page, indent=2) + "\n"


def _rows(timeout_seconds: float) -> list[tuple[int, list[Json]]]:
    return [
        (4, [_status(), _down(), _degraded(), _hung(), _oldest_outcome(), _left_out()]),
        (9, [_components()]),
        (8, [_heartbeat_ages(timeout_seconds), _instances()]),
        (8, [_latencies(), _failures()]),
        (8, [_error_rate()]),
        (10, [_log_lines(), _traces()]),
    ]


# ---------------------------------------------------------------- numbers


def _status() -> Json:
    return stat(
        "Overall status",
        "The worst status of all that is chosen above: one instance that is unhealthy is enough.",
        _metric(f"max(cqrs_health_status{{{_SERIES}}})"),
        unit="none",
        mappings=texts(
            {0: ("HEALTHY", "green"), 1: ("DEGRADED", "yellow"), 2: ("UNHEALTHY", "red")}
        ),
        thresholds=thresholds("green", (1, "yellow"), (2, "red")),
    )


def _down() -> Json:
    return stat(
        "Components down",
        "How many components at least one instance sees down.",
        _metric(f"sum(min by (component) (cqrs_health_component_up{{{_SERIES}}}) == bool 0)"),
        unit="none",
        thresholds=thresholds("green", (1, "red")),
    )


def _degraded() -> Json:
    degraded = f'cqrs_health_component_state{{{_SERIES}, state="degraded"}}'
    return stat(
        "Components degraded",
        "How many components work with a failure that does not count as down yet, or never does.",
        _metric(f"sum(max by (component) ({degraded}))"),
        unit="none",
        thresholds=thresholds("green", (1, "yellow")),
    )


def _hung() -> Json:
    return stat(
        "Hung checks",
        "Checks that were cut off by their timeout and have not ended since.",
        _metric(f"sum(cqrs_health_hung_checks{{{_SERIES}}})"),
        unit="none",
        thresholds=thresholds("green", (1, "red")),
    )


def _oldest_outcome() -> Json:
    return stat(
        "Oldest outcome",
        "How long ago the check was asked that nobody asked for longest. It grows without end where"
        " checks are not refreshed in the background.",
        _metric(f"time() - min(cqrs_health_last_check_timestamp_seconds{{{_SERIES}}})"),
        unit="s",
        thresholds=thresholds("blue"),
    )


def _left_out() -> Json:
    return stat(
        "Left out by limits",
        "Beats, transitions, and components and workers of a scrape that a limit left out within"
        " the time shown.",
        _metric(f"sum(increase(cqrs_health_dropped_total{{{_SERIES}}}[$__range]))"),
        unit="none",
        decimals=0,
        thresholds=thresholds("green", (1, "yellow")),
    )


# ---------------------------------------------------------------- over time


def _components() -> Json:
    # The least within a step: what was down for one scrape only is not stepped over.
    least = f"min_over_time(cqrs_health_component_up{{{_SERIES}}}[$__rate_interval])"
    return history(
        "Components",
        "Which components were up, and when one was down in the eyes of at least one instance.",
        _metric(f"min by (component) ({least})", "{{component}}"),
        unit="none",
        mappings=texts({1: ("UP", "green"), 0: ("DOWN", "red")}),
        thresholds=thresholds("red", (1, "green")),
    )


def _heartbeat_ages(timeout_seconds: float) -> Json:
    # Who cannot read a shared store knows an older beat: the youngest is the truth.
    ages = f"min by (worker) (cqrs_health_heartbeat_age_seconds{{{_SERIES}}})"
    return graph(
        "Heartbeat age",
        "How old the youngest beat of each worker is. Above the upper line, which is the timeout,"
        " the worker is down; the lower line is half of it.",
        _metric(ages, "{{worker}}"),
        custom={"thresholdsStyle": {"mode": "dashed+area"}},
        unit="s",
        thresholds=thresholds("green", (timeout_seconds / 2, "yellow"), (timeout_seconds, "red")),
    )


def _instances() -> Json:
    # Where instances share a store each of them counts all: the most that one knows of is right.
    each = f"max by (worker, state) (cqrs_health_worker_instances{{{_SERIES}}})"
    return graph(
        "Worker instances",
        "Instances of all workers by state: degraded are those that nobody could look at.",
        _metric(f"sum by (state) ({each})", "{{state}}"),
        custom={"fillOpacity": 40, "stacking": _STACKED},
        overrides=[colored(state, color) for state, color in _STATES.items()],
        unit="none",
        decimals=0,
    )


def _latencies() -> Json:
    buckets = f"cqrs_health_check_duration_seconds_bucket{{{_SERIES}}}"
    return heatmap(
        "Latency of checks",
        "How many runs of checks took how long. What moves up is about to be cut off by its"
        " timeout.",
        _metric(f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}"),
        unit="s",
    )


def _failures() -> Json:
    failures = f"cqrs_health_check_failures_total{{{_SERIES}}}"
    return graph(
        "Failures by kind",
        "How often checks were not up: falsy, an exception, a timeout, hung, or reported so.",
        _metric(f"sum by (kind) (increase({failures}[$__rate_interval]))", "{{kind}}"),
        custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": _STACKED},
        unit="short",
    )


def _error_rate() -> Json:
    return graph(
        "Error rate",
        "What the box 'Error rate' above asks for: at first the share of runs of checks that"
        " failed. Put there the share of commands that fail, to see what an outage does to them.",
        _metric("${error_rate:raw}", "__auto"),
        unit="percentunit",
    )


# ---------------------------------------------------------------- one request


def _log_lines() -> Json:
    return logs(
        "Log lines",
        "What the service logged, with the IDs that are filled in above. A line with a trace ID"
        " links to its trace.",
        {
            "datasource": source_of("loki"),
            "expr": f'{_LINES} |= "$correlation_id" |= "$trace_id"',
            "queryType": "range",
        },
    )


def _traces() -> Json:
    # Not on the trace ID itself: a link there would take the place of Jaeger's own.
    to_lines = linked("Trace name", "Its log lines", _here("trace_id", "${__data.fields[0]}"))
    return table(
        "Traces",
        "Traces of the service whose spans have the correlation ID that is filled in above. The"
        " trace ID opens one, its name narrows the log lines to it.",
        {
            "datasource": source_of("jaeger"),
            "queryType": "search",
            "service": "$service",
            "tags": 'correlation_id="$correlation_id"',
            "limit": 20,
        },
        [to_lines],
    )


def _here(name: str, value: str) -> str:
    """Return the address of this dashboard as it is, but for one variable."""
    kept = [
        f"${{{variable}:queryparam}}"
        for variable in ("prometheus", "loki", "jaeger", "job", "instance", "service")
    ]
    return "&".join([f"/d/{UID}?${{__url_time_range}}", *kept, f"var-{name}={value}"])


# ---------------------------------------------------------------- around the panels


def _variables(values: DeployValues) -> list[Json]:
    return [
        data_source("prometheus", "Prometheus", "cqrs-health-prometheus"),
        data_source("loki", "Loki", "cqrs-health-loki"),
        data_source("jaeger", "Jaeger", "cqrs-health-jaeger"),
        choice("job", "Job", "label_values(cqrs_health_status, job)"),
        choice("instance", "Instance", 'label_values(cqrs_health_status{job=~"$job"}, instance)'),
        text_box(
            "service",
            "Service",
            "The service's name in logs (the label service_name) and traces (service.name).",
            values.app,
        ),
        text_box("correlation_id", "Correlation ID", "Whose log lines and traces are shown."),
        text_box("trace_id", "Trace ID", "Whose log lines are shown."),
        text_box(
            "error_rate",
            "Error rate",
            "The expression that the panel of that name asks Prometheus for.",
            _SHARE_OF_FAILED_RUNS,
        ),
    ]


def _annotations() -> list[Json]:
    changed = f"changes(cqrs_health_component_up{{{_SERIES}}}[$__rate_interval]) > 0"
    up = f"cqrs_health_component_up{{{_SERIES}}}"
    return [
        _annotation("Went down", "red", f"{changed} and {up} == 0"),
        _annotation("Came up", "green", f"{changed} and {up} == 1"),
        {
            "name": "Transitions in the log",
            "datasource": source_of("loki"),
            "enable": False,
            "iconColor": "purple",
            "expr": f"{_LINES} |~ `{_TRANSITION}`",
        },
    ]


_TRANSITION = "(check|worker|store) .+ went from (unknown|up|degraded|down) to (up|degraded|down)"


def _annotation(name: str, color: str, expression: str) -> Json:
    return {
        "name": name,
        "datasource": source_of("prometheus"),
        "enable": True,
        "iconColor": color,
        "expr": expression,
        "titleFormat": f"{name}: {{{{component}}}}",
        "textFormat": "{{instance}} of {{job}}",
        "tagKeys": "component",
    }


def _metric(expression: str, legend: str = "") -> Json:
    return {
        "datasource": source_of("prometheus"),
        "expr": expression,
        "legendFormat": legend,
        "range": True,
    }
