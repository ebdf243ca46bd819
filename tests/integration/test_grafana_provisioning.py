"""What Grafana is provisioned with, by its documentation, its types, and what its rules find."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.alerting import Rule

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.cli.export.rendering import rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from cqrs_ddd_health.prometheus import start_metrics_server
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import eventually_sync
from tests.dashboards import Page, metrics_in, page_of

from .grafana_types import misfits, parts, unknown
from .monitoring import Prometheus

PAGE = page_of()
OFTEN = CheckOptions(interval_seconds=0.2, down_interval_seconds=0.2)

ROOT = "grafana/provisioning/"


def provisioned(name: str, *given: str) -> Any:
    values = DeployValues.of(HealthSettings(), given)
    read = yaml.safe_load(rendered("grafana", values)[f"{ROOT}{name}"])
    assert read.pop("apiVersion") == 1
    return read


SOURCES = provisioned("datasources/health.yml")
PROVIDERS = provisioned("dashboards/health.yml")
RULES = provisioned("alerting/rules.yml")
CONTACTS = provisioned("alerting/contact-points.yml")
POLICIES = provisioned("alerting/policies.yml")

ALERTS: list[Page] = [rule for group in RULES["groups"] for rule in group["rules"]]
UID = re.compile(r"[A-Za-z0-9_-]{1,40}")


def fields(found: Mapping[str, Any], required: str, optional: str = "") -> None:
    """Hold the names of fields against what the documentation of Grafana lists."""
    assert set(required.split()) <= set(found) <= {*required.split(), *optional.split()}


def test_data_sources_have_the_documented_fields() -> None:
    fields(SOURCES, "datasources")
    for source in SOURCES["datasources"]:
        fields(source, "name type access url uid", "orgId isDefault editable jsonData")
        assert source["access"] == "proxy"
        assert UID.fullmatch(source["uid"])
    assert [source["type"] for source in SOURCES["datasources"]] == ["prometheus", "loki", "jaeger"]
    assert sum(source.get("isDefault", False) for source in SOURCES["datasources"]) == 1


def test_data_sources_are_where_it_was_said_and_find_one_another() -> None:
    given = ("loki_url=https://logs.example.com/loki", "scrape_interval=5s")
    prometheus, loki, jaeger = provisioned("datasources/health.yml", *given)["datasources"]
    assert (prometheus["url"], jaeger["url"]) == ("http://prometheus:9090", "http://jaeger:16686")
    assert loki["url"] == "https://logs.example.com/loki"
    assert prometheus["jsonData"]["timeInterval"] == "5s"
    assert jaeger["jsonData"]["tracesToLogsV2"]["datasourceUid"] == loki["uid"]
    derived = loki["jsonData"]["derivedFields"]
    assert {each.get("datasourceUid", jaeger["uid"]) for each in derived} == {jaeger["uid"]}


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "line",
    [
        '{{"correlation_id": "{0}", "trace_id": "{1}"}}',
        '{{"trace_id":"{1}","correlation_id":"{0}"}}',
        'level=warning trace_id={1} correlation_id={0} msg="no"',
        'trace_id="{1}" correlation_id="{0}"',
        "correlation_id: {0}, trace_id: {1}.",
    ],
)
def test_ids_in_log_lines_become_links(line: str) -> None:
    correlation_id = "9f0c2a4e-6b1d-4c3e-8f57-1d2e3c4b5a69"
    written = line.format(correlation_id, TRACE_ID)
    derived = SOURCES["datasources"][1]["jsonData"]["derivedFields"]
    for each in derived:
        fields(each, "name matcherType matcherRegex url urlDisplayLabel", "datasourceUid")
    patterns = [each["matcherRegex"] for each in derived if each["matcherType"] == "regex"]
    found = [re.findall(pattern, written) for pattern in patterns]
    assert found == [[TRACE_ID], [correlation_id]]


def test_the_dashboard_is_provided_from_a_directory() -> None:
    fields(PROVIDERS, "providers")
    (provider,) = PROVIDERS["providers"]
    known = "orgId folder disableDeletion allowUiUpdates updateIntervalSeconds"
    fields(provider, "name type options", known)
    fields(provider["options"], "path foldersFromFilesStructure")
    assert provider["type"] == "file"
    assert provider["folder"] == RULES["groups"][0]["folder"]


def test_alert_rules_have_the_documented_fields() -> None:
    fields(RULES, "groups")
    for group in RULES["groups"]:
        fields(group, "name folder interval rules", "orgId")
    optional = "dashboardUid panelId noDataState execErrState annotations labels"
    for rule in ALERTS:
        fields(rule, "uid title condition data for", optional)
        assert UID.fullmatch(rule["uid"])
        for query in rule["data"]:
            fields(query, "refId relativeTimeRange datasourceUid model")
            assert query["model"]["refId"] == query["refId"]
            assert query["model"]["datasource"]["uid"] == query["datasourceUid"]
            assert query["relativeTimeRange"]["from"] > query["relativeTimeRange"]["to"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["title"])
def test_alert_rules_are_of_grafanas_type(rule: Page) -> None:
    (group,) = RULES["groups"]
    of_group = {"folderUID": "health", "orgID": group["orgId"], "ruleGroup": group["name"]}
    whole = {**rule, **of_group}
    assert unknown(Rule, whole) == ["/dashboardUid", "/panelId"]  # which are of the file only
    assert misfits(Rule, whole) == []


def test_alert_rules_name_what_there_is() -> None:
    known = {source["uid"] for source in SOURCES["datasources"]}
    panels = {panel["id"]: panel for panel in PAGE["panels"]}
    for rule in ALERTS:
        asked, compared = rule["data"]
        assert asked["datasourceUid"] in known
        assert compared["datasourceUid"] == "__expr__"
        assert compared["model"]["expression"] == asked["refId"]
        assert rule["condition"] == compared["refId"]
        (metric,) = metrics_in(asked["model"]["expr"])
        assert rule["dashboardUid"] == PAGE["uid"]
        assert metric in panels[rule["panelId"]]["targets"][0]["expr"]


def test_a_component_is_down_at_the_second_evaluation_and_a_beat_is_old_at_two_timeouts() -> None:
    given = ("grafana_interval=1m", "heartbeat_timeout_seconds=90")
    (group,) = provisioned("alerting/rules.yml", *given)["groups"]
    down, stale = group["rules"]
    assert group["interval"] == down["for"] == "1m"
    assert stale["data"][1]["model"]["conditions"][0]["evaluator"]["params"] == [180]
    assert "cqrs_health_component_up == bool 0" in down["data"][0]["model"]["expr"]
    assert down["data"][1]["model"]["conditions"][0]["evaluator"]["params"] == [0]


def test_contact_points_have_the_documented_fields_and_name_their_secrets() -> None:
    fields(CONTACTS, "contactPoints")
    settings: dict[str, Any] = {}
    for contact in CONTACTS["contactPoints"]:
        fields(contact, "name receivers", "orgId")
        for receiver in contact["receivers"]:
            fields(receiver, "uid type settings", "disableResolveMessage")
            assert UID.fullmatch(receiver["uid"])
            settings[receiver["type"]] = receiver["settings"]
    fields(settings["slack"], "url")
    fields(settings["pagerduty"], "integrationKey", "severity class component group")
    fields(settings["email"], "addresses", "singleEmail")
    secrets = settings["slack"]["url"], settings["pagerduty"]["integrationKey"]
    assert all(re.fullmatch(r"\$__file\{/run/secrets/\w+\}", secret) for secret in secrets)


def test_the_team_hears_of_every_alert_and_who_is_on_call_of_what_is_critical() -> None:
    fields(POLICIES, "policies")
    (root,) = POLICIES["policies"]
    fields(root, "receiver group_by routes", "orgId group_wait group_interval repeat_interval")
    assert "component" in root["group_by"]
    critical, rest = root["routes"]
    fields(critical, "receiver object_matchers continue")
    assert critical["object_matchers"] == [["severity", "=", "critical"]]
    assert critical["continue"] is True
    fields(rest, "receiver")
    assert rest["receiver"] == root["receiver"]
    names = {contact["name"] for contact in CONTACTS["contactPoints"]}
    assert {critical["receiver"], rest["receiver"]} == names
    assert {alert["labels"]["severity"] for alert in ALERTS} <= {"critical", "warning"}


def test_every_alert_says_which_component_it_is_of() -> None:
    down, stale = ALERTS
    assert "by (job, component)" in down["data"][0]["model"]["expr"]
    assert stale["labels"]["component"] == "{{ $$labels.worker }}"


def test_grafana_fills_in_nothing_that_is_meant_to_stay() -> None:
    # Neither annotations nor models of rules are filled in; of the rest every string is.
    rest = [
        {name: value for name, value in rule.items() if name not in {"annotations", "data"}}
        for rule in ALERTS
    ]
    for text in strings([SOURCES, PROVIDERS, CONTACTS, POLICIES, rest]):
        assert "$" not in re.sub(r"\$\$|\$__file\{/run/secrets/\w+\}", "", text)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for each in parts(value).values():
            yield from strings(each)


def test_the_rules_find_what_is_down_and_what_is_old(tmp_path: Path) -> None:
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=0.1))
    check = registry.register("database", FakeCheck(OSError()), options=OFTEN)
    registry.register("cache", FakeCheck())
    registry.heartbeat("outbox")
    (group,) = provisioned("alerting/rules.yml", "heartbeat_timeout_seconds=0.1")["groups"]
    down, stale = group["rules"]
    with (
        start_metrics_server(registry, 0) as server,
        Prometheus.of_ports(tmp_path, worker=server.port) as there,
    ):
        eventually_sync(lambda: firing(there, down, "component") == {"database"})
        eventually_sync(lambda: firing(there, stale, "worker") == {"outbox"})
        check.result = CheckResult()
        eventually_sync(lambda: firing(there, down, "component") == set())


def firing(prometheus: Prometheus, rule: Page, label: str) -> set[str]:
    """Return what of the rule's first query is beyond the bound that its second one compares."""
    asked, compared = (query["model"] for query in rule["data"])
    (condition,) = compared["conditions"]
    assert condition["evaluator"]["type"] == "gt"
    (bound,) = condition["evaluator"]["params"]
    found = prometheus.values(asked["expr"], label)
    assert rule["condition"] == compared["refId"]
    return {name for name, value in found.items() if value > bound}
