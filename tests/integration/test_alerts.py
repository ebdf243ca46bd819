"""When alerts fire, what they say, and whom Alertmanager would tell: by promtool and amtool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.actors import eventually_sync
from tests.service import bare_environment, run_cli

from .alert_cases import CASES, JOB, Case, Fires
from .monitoring import Alertmanager, export_monitoring, run_tool

ALERTS = "ALERTS{alertstate='firing'}"
OTHERWISE = (
    ["app=orders", "target=orders:9100"],
    ["evaluation_interval=1m", "scrape_interval=2m", "trend_window=1h", "flapping_changes=10"],
    ["heartbeat_timeout_seconds=0.5", "check_timeout_seconds=0.25", "check_interval_seconds=900"],
    ["secrets_dir=/etc/alertmanager", "smtp_host=mail:25", "mail_to=a.b+c@example.org"],
    ["pagerduty_url=https://events.eu.pagerduty.com/v2/enqueue", "slack_channel=@on.call"],
)


def unit_tests(
    directory: Path, series: Mapping[str, str], evaluation_interval: str = "30s", **checks: Any
) -> str:
    """Have promtool test the alerts, and return what it says against them, or nothing."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "15s", "input_series": inputs, **checks}
    file = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": evaluation_interval,
        "tests": [test],
    }
    (directory / "test.yml").write_text(json.dumps(file), "utf-8")  # JSON is YAML
    done = run_tool("promtool", "test", "rules", "test.yml", directory=directory)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()


def firing(at: str, *alerts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the check that these alerts fire at that time, and no other."""
    samples = [
        {"labels": _selector({**each, "alertstate": "firing"}), "value": 1} for each in alerts
    ]
    return [{"expr": ALERTS, "eval_time": at, "exp_samples": samples}]


def _selector(labels: Mapping[str, str]) -> str:
    return f"ALERTS{{{', '.join(f'{name}={value!r}' for name, value in labels.items())}}}"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deployed")
    export_monitoring(directory)
    return directory


def names_in(directory: Path) -> list[str]:
    return re.findall(r"- alert: (\w+)\n", (directory / "alerts.yml").read_text("utf-8"))


def annotations_of(directory: Path, alert: str, fires: Fires) -> dict[str, str]:
    """Return what an alert says, with its labels and its value filled in."""
    text = (directory / "alerts.yml").read_text("utf-8")
    rule = text.partition(f"- alert: {alert}\n")[2].partition("- alert:")[0]
    found = re.search(r'summary: "(.+)"\n +description: >-\n((?: {12}.+\n)+)', rule)
    assert found is not None, rule
    filled = {f"$labels.{name}": value for name, value in fires.labels.items()}

    def fill(placeholder: re.Match[str]) -> str:
        return fires.value if placeholder[1].startswith("$value") else filled[placeholder[1]]

    summary, description = (
        re.sub(r"\{\{ (.+?) \}\}", fill, " ".join(words.split())) for words in found.groups()
    )
    return {"summary": summary, "description": description}


# --- the files


@pytest.mark.parametrize("given", [[], *OTHERWISE])
def test_the_tools_find_nothing_in_the_files(given: Sequence[str], tmp_path: Path) -> None:
    export_monitoring(tmp_path, *given)
    for tool, *arguments in (
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("amtool", "check-config", "alertmanager.yml"),
    ):
        done = run_tool(tool, *arguments, directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, b""), done.stdout
        assert b"SUCCESS" in done.stdout


# --- when alerts fire


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.promise}")
def test_an_alert_fires_when_it_should(case: Case, deployed: Path) -> None:
    expected: list[dict[str, object]] = []
    if case.fires is not None:
        said = annotations_of(deployed, case.alert, case.fires)
        expected.append({"exp_labels": case.fires.labels, "exp_annotations": said})
    check = {"alertname": case.alert, "eval_time": case.at, "exp_alerts": expected}
    assert unit_tests(deployed, case.series, alert_rule_test=[check]) == ""


def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(deployed: Path) -> None:
    alerts = names_in(deployed)
    assert len(set(alerts)) == len(alerts) > 0
    assert {case.alert for case in CASES if case.fires} == set(alerts)
    assert {case.alert for case in CASES if not case.fires} == set(alerts)


def test_a_case_that_is_wrong_is_found(deployed: Path) -> None:
    check: dict[str, object] = {"alertname": "CqrsHealthNoData", "eval_time": "60s"}
    assert "CqrsHealthNoData" in unit_tests(deployed, {}, alert_rule_test=[check])


def one_dead_worker(replicas: int) -> dict[str, str]:
    """Return what so many processes see of a worker that has not beaten for some minutes."""
    series: dict[str, str] = {}
    for number in range(replicas):
        age = 200 + number
        seen = f'job="{JOB}", instance="10.0.0.{number}:9000"'
        series |= {
            f'cqrs_health_component_up{{{seen}, component="outbox"}}': "0x20",
            f'cqrs_health_component_up{{{seen}, component="database"}}': "1x20",
            f'cqrs_health_heartbeat_age_seconds{{{seen}, worker="outbox"}}': f"{age}+15x20",
            f'cqrs_health_worker_instances{{{seen}, worker="outbox", state="up"}}': "0x20",
            f"cqrs_health_status{{{seen}}}": "2x20",
            f"cqrs_health_ready{{{seen}}}": "1x20",
            f"up{{{seen}}}": "1x20",
        }
    return series


DEAD = {"component": "outbox", "job": JOB, "severity": "critical"}
DEAD_WORKER = (
    {"alertname": "CqrsHealthComponentDown", **DEAD},
    {"alertname": "CqrsHealthHeartbeatOld", "worker": "outbox", **DEAD},
)


@pytest.mark.parametrize("replicas", [1, 200])
def test_one_worker_that_died_is_one_alert_whoever_sees_it(replicas: int, deployed: Path) -> None:
    check = firing("60s", *DEAD_WORKER)
    assert unit_tests(deployed, one_dead_worker(replicas), promql_expr_test=check) == ""


def test_thresholds_follow_what_is_set(tmp_path: Path) -> None:
    environment = bare_environment(tmp_path, CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS="90")
    given = ("--set", "app=orders", "--set", "evaluation_interval=1m")
    done = run_cli("export", "alerts", ".", *given, environment=environment, directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    labels = {"component": "outbox", "job": "orders", "severity": "critical"}
    old = {"alertname": "CqrsHealthHeartbeatOld", "worker": "outbox", **labels}
    down = {"alertname": "CqrsHealthComponentDown", **labels}
    series = {
        'cqrs_health_status{job="orders"}': "0x40",
        'cqrs_health_heartbeat_age_seconds{job="orders", worker="outbox"}': "0+15x40",
        'cqrs_health_component_up{job="orders", component="outbox"}': "1x9 0x40",
        f'cqrs_health_component_up{{job="{JOB}", component="outbox"}}': "0x40",
    }
    checks = [*firing("180s"), *firing("240s", down, old)]
    assert unit_tests(tmp_path, series, "1m", promql_expr_test=checks) == ""


# --- whom Alertmanager tells


@pytest.mark.parametrize(
    ("severity", "receivers"),
    [("critical", "on_call,team"), ("warning", "team"), ("unheard_of", "team")],
)
def test_what_is_critical_pages_and_the_team_hears_of_all(
    severity: str, receivers: str, deployed: Path
) -> None:
    asked = ("config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
    done = run_tool("amtool", *asked, directory=deployed)
    assert (done.returncode, done.stdout.decode().strip()) == (0, receivers)


@pytest.fixture
def alertmanager(deployed: Path) -> Iterator[Alertmanager]:
    """One that can tell nobody: there are no secrets."""
    with Alertmanager(deployed / "alertmanager.yml") as server:
        yield server


def alert(name: str, component: str | None = None, job: str = JOB) -> dict[str, str]:
    labels = {"alertname": f"CqrsHealth{name}", "job": job, "severity": "critical"}
    return labels if component is None else {**labels, "component": component}


@pytest.mark.parametrize(
    ("alerts", "told"),
    [
        ([alert("ComponentDown", "outbox"), alert("HeartbeatOld", "outbox")], {"ComponentDown"}),
        (
            [alert("ComponentDown", "outbox"), alert("HeartbeatOld", "sagas")],
            {"ComponentDown", "HeartbeatOld"},
        ),
        (
            [
                alert("WorkerBelowMinimum", "outbox"),
                alert("ComponentDown", "outbox"),
                alert("ReportOld", "outbox"),
                alert("CheckSlow", "database"),
            ],
            {"WorkerBelowMinimum", "CheckSlow"},
        ),
        (
            [alert("ComponentDown", "database"), alert("CheckSlow", "database")],
            {"ComponentDown"},
        ),
        ([alert("ComponentDown", "database"), alert("ReadyFlapping")], {"ComponentDown"}),
        (
            [alert("ComponentDown", "database", "other"), alert("ReadyFlapping")],
            {"ComponentDown", "ReadyFlapping"},
        ),
        (
            [alert("ComponentDown", "database"), alert("NoncriticalDown", "database")],
            {"ComponentDown"},
        ),
        (
            [alert("NoncriticalDown", "database"), alert("CheckSlow", "database")],
            {"NoncriticalDown"},
        ),
        (
            [alert("NoncriticalDown", "store"), alert("StoreFailing", "store")],
            {"StoreFailing"},
        ),
        ([alert("NoData"), alert("TargetDown")], {"NoData"}),
        ([alert("CheckHung"), alert("StoreFailing")], {"CheckHung", "StoreFailing"}),
    ],
)
def test_what_follows_from_another_alert_is_told_to_nobody(
    alerts: list[dict[str, str]], told: set[str], alertmanager: Alertmanager
) -> None:
    alertmanager.post(*alerts)
    expected = {
        each["alertname"]: "active"
        if each["alertname"].removeprefix("CqrsHealth") in told
        else "suppressed"
        for each in alerts
    }
    eventually_sync(lambda: alertmanager.states() == expected)
