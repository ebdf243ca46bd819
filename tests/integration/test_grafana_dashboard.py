"""The dashboard by the types that Grafana publishes, and what a real Prometheus answers it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import eventually_sync
from tests.dashboards import Page, page_of, questions_of, titled

from .grafana_types import misfits, unknown
from .monitoring import Prometheus, watched_demo

PAGE = page_of()
OFTEN = CheckOptions(interval_seconds=0.2, down_interval_seconds=0.2)
OF_THE_PLUGIN = ("tagKeys", "textFormat", "titleFormat")
"""What annotations of Prometheus have beside the published type, which leaves plugins free."""


def test_grafana_knows_every_property_of_the_dashboard() -> None:
    annotations = [
        f"/annotations/list/{index}/{name}" for index in range(2) for name in OF_THE_PLUGIN
    ]
    assert sorted(unknown(Dashboard, PAGE)) == sorted(annotations)


def test_every_value_of_the_dashboard_is_of_grafanas_type() -> None:
    assert misfits(Dashboard, PAGE) == []


def test_the_options_of_every_panel_have_a_published_type_and_only_jaegers_query_has_none() -> None:
    panels = [Panel.from_json(panel) for panel in PAGE["panels"]]
    assert not [panel.title for panel in panels if isinstance(panel.options, dict)]
    untyped = [
        panel.title
        for panel in panels
        for target in panel.targets or ()
        if isinstance(target, UnknownDataquery)
    ]
    assert untyped == ["Traces"]


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ({"refresh": 30}, "refresh"),
        ({"graphTooltip": 7}, "graph_tooltip"),
        ({"panels": [{"type": "stat", "options": {"colorMode": "loud"}}]}, "color_mode"),
        ({"panels": [{"type": "logs", "gridPos": {"h": "8", "w": 1, "x": 0, "y": 0}}]}, "h"),
        ({"templating": {"list": [{"type": "text", "name": "a"}]}}, "type_val"),
    ],
)
def test_a_broken_dashboard_is_found(broken: Page, found: str) -> None:
    assert [each for each in misfits(Dashboard, {**PAGE, **broken}) if found in each]


def test_a_property_that_does_not_exist_is_found() -> None:
    panel = {**PAGE["panels"][0], "unheard": 1}
    assert "/panels/0/unheard" in unknown(Dashboard, {**PAGE, "panels": [panel]})


# ---------------------------------------------------------------- its questions

FILLED_IN = {
    "$__rate_interval": "1m",
    "$__range": "1m",
    "$job": ".*",
    "$instance": ".*",
}


class Watched:
    """A demo service and a worker's process with one check, as a real Prometheus knows them."""

    def __init__(self, prometheus: Prometheus, check: FakeCheck) -> None:
        self.check = check
        self._prometheus = prometheus

    def found(self, question: str) -> list[Any]:
        """Return what the answer to a question of the dashboard has, nothing while it has none."""
        for variable, value in FILLED_IN.items():
            question = question.replace(variable, value)
        chosen = re.fullmatch(r"label_values\((.*), (\w+)\)", question)
        if chosen:
            return list(
                self._prometheus.get(f"/label/{chosen[2]}/values", **{"match[]": chosen[1]})
            )
        return self._prometheus.query(question)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0.1))
    check = registry.register("database", FakeCheck(OSError()), options=OFTEN)
    registry.heartbeat("outbox")
    with watched_demo(registry, directory) as (prometheus, _):
        yield Watched(prometheus, check)


TYPED = "${error_rate:raw}"  # whose first content is among the questions too
MARKS = [each["expr"] for each in PAGE["annotations"]["list"][:2]]


@pytest.mark.parametrize("question", sorted({*questions_of(PAGE)} - {*MARKS, TYPED}))
def test_every_question_of_the_dashboard_has_an_answer(watched: Watched, question: str) -> None:
    eventually_sync(lambda: watched.found(question) != [])


def test_a_check_that_goes_up_and_down_is_marked(watched: Watched) -> None:
    down, up = MARKS
    eventually_sync(lambda: named(watched.found("cqrs_health_component_up == 0")) >= {"database"})
    watched.check.result = CheckResult()
    eventually_sync(lambda: "database" in named(watched.found(up)))
    assert "database" not in named(watched.found(down))
    watched.check.result = OSError()
    eventually_sync(lambda: "database" in named(watched.found(down)))
    assert "database" not in named(watched.found(up))
    assert "outbox" not in named(watched.found(up))


def test_the_error_rate_at_first_is_a_share(watched: Watched) -> None:
    (box,) = (each for each in PAGE["templating"]["list"] if each["name"] == "error_rate")
    (target,) = titled(PAGE, "Error rate")["targets"]
    assert target["expr"] == TYPED

    def shares() -> list[float]:
        return [float(each["value"][1]) for each in watched.found(box["query"])]

    eventually_sync(lambda: [0 < share <= 1 for share in shares()] == [True])


def named(series: list[Any]) -> set[str]:
    return {each["metric"]["component"] for each in series}


def test_legends_name_labels_that_the_answers_have(watched: Watched) -> None:
    for panel in PAGE["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                assert all(label in each["metric"] for each in watched.found(target["expr"]))


def test_the_row_of_a_component_says_down_if_any_instance_says_so(watched: Watched) -> None:
    (target,) = titled(PAGE, "Components")["targets"]
    eventually_sync(lambda: {"database", "outbox"} <= named(watched.found(target["expr"])))
    read = {each["metric"]["component"]: each["value"][1] for each in watched.found(target["expr"])}
    assert (read["database"], read["outbox"]) == ("0", "1")
