"""A database is stopped and started: who is told, by a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.prometheus import start_metrics_server
from tests.core.actors import eventually_sync
from tests.processes import LOCALHOST, free_port
from tests.servers import OwnPostgres
from tests.service import Service, bare_environment

from .monitoring import Alertmanager, Prometheus, Receiver, export_monitoring

DOWN = "CqrsHealthComponentDown"
LABELS = {"alertname": DOWN, "component": "database", "job": "trial", "severity": "critical"}
FAST = (
    *("scrape_interval=1s", "evaluation_interval=1s"),
    *("group_wait=1s", "group_interval=1s", "trend_window=1m"),
)
SELECTOR = re.compile(r"\b(?:cqrs_health_\w+|up)\{[^}]*\}")


class Trial(NamedTuple):
    """A service with its database, and all that watches it."""

    database: OwnPostgres
    prometheus: Prometheus
    alertmanager: Alertmanager
    told: Receiver


def served(stack: ExitStack, database: OwnPostgres, directory: Path) -> Service:
    """Start a service, and a worker that beats in another process, as far as it can tell."""
    store = f"sqlite+aiosqlite:///{directory / 'beats.db'}"
    worker = HealthRegistry(settings=HealthSettings(heartbeat_store_url=SecretStr(store)))
    stack.enter_context(start_metrics_server(worker, 0))
    worker.heartbeat("outbox")
    environment = bare_environment(
        directory,
        CQRS_HEALTH_HEARTBEAT_STORE_URL=store,
        CQRS_HEALTH_CHECKS__DATABASE__URL=database.url("asyncpg"),
        CQRS_HEALTH_CHECKS__DATABASE__INTERVAL_SECONDS="0.2",
        CQRS_HEALTH_CHECKS__DATABASE__DOWN_INTERVAL_SECONDS="0.2",
    )
    return stack.enter_context(Service.of_cli(environment=environment, directory=directory))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    directory = tmp_path_factory.mktemp("trial")
    with ExitStack() as stack:
        told = stack.enter_context(Receiver())
        (directory / "slack_url").write_text(f"{told.url}/slack", "utf-8")
        (directory / "pagerduty_key").write_text("key", "utf-8")
        database = stack.enter_context(OwnPostgres())
        service = served(stack, database, directory)
        alertmanager = Alertmanager(directory / "alertmanager.yml")
        export_monitoring(
            directory,
            *("app=trial", *FAST),
            f"target={LOCALHOST}:{service.port}",
            f"alertmanager={LOCALHOST}:{alertmanager.port}",
            f"secrets_dir={directory}",
            f"pagerduty_url={told.url}/pagerduty",
            f"smtp_host={LOCALHOST}:{free_port()}",  # no mail leaves this machine
        )
        stack.enter_context(alertmanager)
        prometheus = stack.enter_context(Prometheus(directory / "prometheus.yml"))
        yield Trial(database, prometheus, alertmanager, told)


def is_up(trial: Trial) -> float | None:
    found = trial.prometheus.values('cqrs_health_component_up{job="trial"}', "component")
    return found.get("database")


def paged(trial: Trial) -> list[tuple[str, str]]:
    """Return what became of the incidents of the database, and which ones they are."""
    events = trial.told.got("/pagerduty")
    return [
        (event["event_action"], event["dedup_key"])
        for event in events
        if event.get("payload", {}).get("component") == "database"
    ]


def written(trial: Trial) -> list[str]:
    """Return the titles of what the team could read of the database."""
    titles = [post["attachments"][0]["title"] for post in trial.told.got("/slack")]
    return [title for title in titles if "database" in title]


def history(trial: Trial, state: str, since: float) -> list[float]:
    """Return at which evaluations since then the alert was in that state."""
    found = trial.prometheus.query(f'ALERTS{{alertname="{DOWN}", alertstate="{state}"}}[10m]')
    return [float(at) for series in found for at, _ in series["values"] if at > since]


def test_a_database_that_stops_pages_and_is_resolved_once_it_is_back(trial: Trial) -> None:
    eventually_sync(lambda: is_up(trial) == 1)
    assert DOWN not in trial.prometheus.alerts()

    stopped_at = time.time()
    trial.database.stop()
    eventually_sync(lambda: trial.prometheus.alerts().get(DOWN) == "firing")
    (alert,) = [
        each
        for each in trial.prometheus.get("/alerts")["alerts"]
        if each["labels"]["alertname"] == DOWN
    ]
    assert alert["labels"] == LABELS
    assert alert["annotations"]["summary"] == "database of trial is down"
    eventually_sync(lambda: trial.alertmanager.states().get(DOWN) == "active")
    eventually_sync(lambda: bool(paged(trial)) and bool(written(trial)))
    assert {action for action, _ in paged(trial)} == {"trigger"}
    assert set(written(trial)) == {"FIRING: database of trial is down"}

    trial.database.start()
    eventually_sync(lambda: is_up(trial) == 1)
    eventually_sync(lambda: DOWN not in trial.prometheus.alerts())
    eventually_sync(lambda: paged(trial)[-1][0] == "resolve")
    eventually_sync(lambda: written(trial)[-1] == "RESOLVED: database of trial is down")
    assert len({incident for _, incident in paged(trial)}) == 1
    assert [action for action, _ in paged(trial)].count("resolve") == 1

    # Of two evaluations in a row that saw it down, it was pending at the first.
    pending, firing = (history(trial, state, stopped_at) for state in ("pending", "firing"))
    assert len(pending) == 1
    assert pending < firing[:1]


def test_each_expression_is_understood_and_what_it_selects_is_there(trial: Trial) -> None:
    groups: list[Any] = []
    eventually_sync(lambda: _evaluated(groups, trial.prometheus.get("/rules")["groups"]))
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 11
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
        trial.prometheus.query(rule["query"])
    selectors = {each for rule in rules for each in SELECTOR.findall(rule["query"])}
    assert len(selectors) > len(rules)
    eventually_sync(lambda: all(map(trial.prometheus.query, selectors)))


def _evaluated(groups: list[Any], found: list[Any]) -> bool:
    groups[:] = found
    return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
