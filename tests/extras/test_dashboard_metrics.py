"""The dashboard asks for metrics that there are."""

from __future__ import annotations

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.web.collector import HealthCollector
from tests.dashboards import metrics_in, page_of, questions_of

_SERIES = {"histogram": ("_bucket", "_count"), "counter": ("_total",), "gauge": ("",)}


def test_each_metric_of_the_dashboard_is_one_that_is_collected() -> None:
    there = {
        f"{metric.name}{ending}"
        for metric in HealthCollector(HealthRegistry()).describe()
        for ending in _SERIES[metric.type]
    }
    asked = {name for question in questions_of(page_of()) for name in metrics_in(question)}
    assert {"cqrs_health_component_up", "cqrs_health_heartbeat_age_seconds"} <= asked <= there
