"""The dashboard by rules of its own: complete, within its grid, and in step with the settings."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import combinations, product
from typing import get_args

import pytest

from cqrs_ddd_health import HealthSettings, InvalidOptionError
from cqrs_ddd_health.cli.export.dashboard import UID, dashboard
from cqrs_ddd_health.cli.export.panels import COLUMNS, thresholds
from cqrs_ddd_health.cli.export.rendering import rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from cqrs_ddd_health.domain.models import ComponentKind, ComponentState, Failure
from cqrs_ddd_health.domain.transitions import LOGGER, Transition, log
from tests.dashboards import Page, page_of, targets_of, titled, variables_in

NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)
PAGE = page_of()
PANELS: list[Page] = PAGE["panels"]
VARIABLES: list[Page] = PAGE["templating"]["list"]
SOURCES = {
    variable["query"]: variable["current"]["value"]
    for variable in VARIABLES
    if variable["type"] == "datasource"
}


def test_it_is_json_that_reads_back_as_it_was() -> None:
    text = dashboard(DeployValues())
    assert text.endswith("}\n")
    assert json.dumps(json.loads(text), indent=2) + "\n" == text


def test_it_has_an_address_that_stays() -> None:
    assert PAGE["uid"] == UID == "cqrs-health"
    assert PAGE["refresh"] == "30s"
    assert PAGE["time"] == {"from": "now-1h", "to": "now"}
    assert "id" not in PAGE  # which Grafana gives it; with one it would take another's place


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: Page) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > len(panel["title"])
    assert panel["description"].endswith(".")


def test_every_query_goes_to_a_data_source_that_can_be_chosen() -> None:
    chosen = [{"type": kind, "uid": f"${{{kind}}}"} for kind in SOURCES]
    assert set(SOURCES) == {"prometheus", "loki", "jaeger"}
    assert all(target["datasource"] in chosen for target in targets_of(PAGE))
    assert all(panel["datasource"] == panel["targets"][0]["datasource"] for panel in PANELS)


def test_the_data_sources_at_first_are_those_that_are_provisioned() -> None:
    name = "grafana/provisioning/datasources/health.yml"
    provisioned = rendered("grafana", DeployValues())[name]
    assert set(re.findall(r"uid: (\S+)", provisioned)) == set(SOURCES.values())


def test_each_variable_is_there_once_and_used() -> None:
    names = [variable["name"] for variable in VARIABLES]
    elsewhere = json.dumps([PANELS, PAGE["annotations"], [v["query"] for v in VARIABLES]])
    assert len(names) == len(set(names))
    assert set(names) == variables_in(elsewhere)
    assert all(variable["label"] and variable["description"] for variable in VARIABLES)


def test_panels_have_a_place_each_within_the_grid() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        set(
            product(
                range(at["x"], at["x"] + at["w"]),
                range(at["y"], at["y"] + at["h"]),
            )
        )
        for at in (panel["gridPos"] for panel in PANELS)
    ]
    assert all(not one & other for one, other in combinations(cells, 2))
    assert {x for each in cells for x, _ in each} == set(range(COLUMNS))


@pytest.mark.parametrize(
    ("seconds", "steps"), [("60", [None, 30, 60]), ("90", [None, 45, 90]), ("5", [None, 2.5, 5])]
)
def test_a_heartbeat_turns_yellow_at_half_its_timeout(
    seconds: str, steps: list[float | None]
) -> None:
    panel = titled(page_of(f"heartbeat_timeout_seconds={seconds}"), "Heartbeat age")
    drawn = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in drawn] == steps
    assert [step["color"] for step in drawn] == ["green", "yellow", "red"]


def test_a_whole_threshold_is_written_whole() -> None:
    assert json.dumps(thresholds("green", (30.0, "red"))["steps"]).endswith('"value": 30}]')


def test_a_component_reads_up_or_down() -> None:
    (mapping,) = titled(PAGE, "Components")["fieldConfig"]["defaults"]["mappings"]
    shown = {value: (to["text"], to["color"]) for value, to in mapping["options"].items()}
    assert shown == {"1": ("UP", "green"), "0": ("DOWN", "red")}


def test_the_service_is_the_one_that_is_deployed() -> None:
    (service,) = (
        variable
        for variable in page_of("app=orders")["templating"]["list"]
        if variable["name"] == "service"
    )
    assert service["current"]["value"] == "orders"


def test_a_link_keeps_what_is_chosen_but_for_what_it_sets() -> None:
    (override,) = titled(PAGE, "Traces")["fieldConfig"]["overrides"]
    ((found,),) = (each["value"] for each in override["properties"])
    kept = variables_in(found["url"])
    assert found["url"].startswith(f"/d/{UID}?${{__url_time_range}}&")
    assert found["url"].endswith("&var-trace_id=${__data.fields[0]}")
    assert {"prometheus", "loki", "jaeger", "job", "instance", "service"} == kept


@pytest.mark.parametrize("name", ["database", "it's", "both \" and '", "went from up to down"])
def test_every_transition_that_is_logged_is_an_annotation(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOGGER)
    for kind in get_args(ComponentKind):
        for before, after in product([None, *get_args(ComponentState)], get_args(ComponentState)):
            failure = None if after == "up" else Failure(kind="timeout", since=NOON)
            log(
                Transition(
                    name=name, kind=kind, before=before, after=after, at=NOON, failure=failure
                ),
                {},
            )
    (pattern,) = re.findall(r"\|~ `(.*)`", PAGE["annotations"]["list"][2]["expr"])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 * 4 * 3
    assert all(re.search(pattern, line) for line in lines)
    assert all(re.search(pattern, json.dumps({"message": line})) for line in lines)
    assert not re.search(pattern, "the database went away")


@pytest.mark.parametrize(
    "given",
    [
        "grafana_interval=15s",
        "grafana_interval=5s",
        "prometheus_url=prometheus:9090",
        "loki_url=http://loki:3100/$HOME",
        'jaeger_url=http://jaeger"',
        "mail_to=nobody",
        "mail_to=$MAIL@example.com",
    ],
)
def test_a_value_that_grafana_would_refuse_is_refused(given: str) -> None:
    with pytest.raises(InvalidOptionError, match=given.partition("=")[0]):
        DeployValues.of(HealthSettings(), [given])
