"""What is exported to deploy: in step with the settings, and refused where a value is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqrs_ddd_health import HealthSettings, InvalidOptionError
from cqrs_ddd_health.cli.export.dispatch import export
from cqrs_ddd_health.cli.export.rendering import KINDS, rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from cqrs_ddd_health.cli.output import UsageError
from cqrs_ddd_health.cli.parser import DEPLOYED

DEPLOY = Path(__file__).parents[2] / "deploy"
DEFAULTS = DeployValues.of(HealthSettings())


def test_the_command_knows_each_kind() -> None:
    assert tuple(KINDS) == DEPLOYED


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_committed_is_what_is_rendered(kind: str) -> None:
    for name, text in rendered(kind, DEFAULTS).items():
        assert (DEPLOY / name).read_text("utf-8") == text, f"run `make deploy`: {name} is old"


def test_nothing_else_is_committed() -> None:
    committed = {path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*.*")}
    assert committed == {name for names in KINDS.values() for name in names}


def test_times_follow_the_settings_and_what_is_set_wins(tmp_path: Path) -> None:
    settings = HealthSettings(heartbeat_timeout_seconds=90, check_timeout_seconds=2.5)
    values = DeployValues.of(settings, ["app=orders", "check_timeout_seconds=3"])
    assert values.filled["heartbeat_alert_seconds"] == "180"
    assert (values.app, values.check_timeout_seconds) == ("orders", 3.0)
    export("prometheus", str(tmp_path), ["target=orders:9100", "app=orders"])
    written = (tmp_path / "prometheus.yml").read_text("utf-8")
    assert '"orders:9100"' in written
    assert "job_name: orders" in written


def test_a_report_is_old_after_two_turns_of_the_slowest_check() -> None:
    assert DEFAULTS.filled["report_old_seconds"] == "91"  # 2 x (30 s + 10 % + 5 s) + 15 s
    settings = HealthSettings.model_validate({"checks": {"audit": {"interval_seconds": 600}}})
    values = DeployValues.of(settings, ["scrape_interval=1m"])
    assert values.filled["report_old_seconds"] == "1390"


@pytest.mark.parametrize(
    ("timeout", "bound"), [("5", "2.5"), ("3", "1.0"), ("60", "5.0"), ("0.001", "0.005")]
)
def test_a_check_is_slow_from_a_bound_up_to_half_of_its_timeout(timeout: str, bound: str) -> None:
    values = DeployValues.of(HealthSettings(), [f"check_timeout_seconds={timeout}"])
    assert values.filled["slow_bound"] == bound


@pytest.mark.parametrize(
    ("scrape", "evaluation", "longer"),
    [("15s", "30s", "30s"), ("2m", "30s", "2m"), ("100ms", "1s", "1s"), ("1d", "23h", "1d")],
)
def test_nothing_is_missed_before_it_could_be_there(
    scrape: str, evaluation: str, longer: str
) -> None:
    given = [f"scrape_interval={scrape}", f"evaluation_interval={evaluation}"]
    assert DeployValues.of(HealthSettings(), given).filled["missing_for"] == longer


def test_there_is_always_more_time_to_leave_than_it_takes() -> None:
    values = DeployValues.of(HealthSettings(drain_seconds=12.5), ["prestop_seconds=20"])
    assert (values.drain_seconds, values.filled["grace_seconds"]) == (12.5, "63")


def test_in_compose_the_target_is_the_demo_unless_told_otherwise() -> None:
    demo = DeployValues.of(HealthSettings(), ["target=orders:9200"]).filled
    assert (demo["target_host"], demo["target_port"]) == ("orders", "9200")
    assert (demo["prometheus_hosts"], demo["demo_profiles"]) == ("[]", "[]")
    host = DeployValues.of(HealthSettings(), ["scraped=host", "demo_from=index"]).filled
    assert "host.docker.internal:host-gateway" in host["prometheus_hosts"]
    assert (host["demo_profiles"], host["demo_context"]) == ("[demo]", ".")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("prometheus", "NAME=VALUE"),
        ("aap=orders", "did you mean app?"),
        ("zzz=1", "there are app, target"),
        ("app=Orders!", "app cannot be 'Orders!'"),
        ("app=a\n", "app cannot be"),
        ("scrape_interval=15", "scrape_interval cannot be '15'"),
        ("scrape_interval=0s", "scrape_interval cannot be '0s'"),
        ("target=http://orders", "target cannot be"),
        ("secrets_dir=secrets", "secrets_dir cannot be 'secrets'"),
        ("slack_channel=#a: b", "slack_channel cannot be"),
        ("pagerduty_url=file:///etc/passwd", "pagerduty_url cannot be"),
        ("mail_to=me@example.org, you@example.org", "mail_to cannot be"),
        ("flapping_changes=0", "flapping_changes cannot be '0'"),
        ("drain_seconds=-1", "drain_seconds cannot be '-1'"),
        ("worker_module=a;b", "worker_module cannot be 'a;b'"),
        ("startup_path=/", "startup_path cannot be '/'"),
        ("prestop_seconds=0", "prestop_seconds cannot be '0'"),
        ("replicas=0", "replicas cannot be '0'"),
        ("image=Orders", "image cannot be 'Orders'"),
        ("heartbeat_timeout_seconds=nan", "heartbeat_timeout_seconds cannot be 'nan'"),
    ],
)
def test_a_value_that_is_none_is_refused(given: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match=words.replace("?", r"\?")):
        DeployValues.of(HealthSettings(), [given])
    with pytest.raises(UsageError):
        export("prometheus", str(tmp_path), [given])
    assert not list(tmp_path.iterdir())


def test_values_are_for_what_is_deployed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--set is for prometheus"):
        export("schemas", str(tmp_path), ["app=orders"])


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write the files"):
        export("prometheus", str(tmp_path / "file"))
