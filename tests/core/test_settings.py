"""The settings: from real environments, dotenv files and secret files, and who wins."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from cqrs_ddd_health import (
    CheckResult,
    CheckSettings,
    ComponentStatus,
    HealthRegistry,
    HealthSettings,
    SettingsError,
)
from tests.core.actors import log_is_written

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("CQRS_HEALTH_"):
            monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> HealthSettings:
    for name, value in variables.items():
        monkeypatch.setenv(f"CQRS_HEALTH_{name}", value)
    return HealthSettings.from_environment()


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **variables)
    assert caught.value.__cause__ is None
    return str(caught.value)


def in_a_process(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CQRS_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **variables, "PYTHONUTF8": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_empty_environment_gives_the_defaults() -> None:
    defaults: dict[str, object] = {
        "heartbeat_timeout_seconds": 60.0,
        "check_timeout_seconds": 5.0,
        "http_max_age_seconds": 1.0,
        "http_deadline_seconds": 0.8,
        "detail": "safe",
        "required": (),
        "service_name": None,
        "serve_host": "127.0.0.1",
        "serve_port": 8000,
        "checks": {},
    }
    assert defaults.items() <= HealthSettings.from_environment().model_dump().items()


def test_every_setting_can_be_said_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = read(
        monkeypatch,
        HEARTBEAT_TIMEOUT_SECONDS="0",
        CHECK_TIMEOUT_SECONDS="2.5",
        DETAIL="full",
        REQUIRED="database, outbox ,",
        SERVICE_NAME="shop",
        SERVE_PORT="0",
        MAX_THREADS="4",
    )
    assert said.heartbeat_timeout_seconds == 0.0
    assert said.check_timeout_seconds == 2.5
    assert said.detail == "full"
    assert said.required == ("database", "outbox")
    assert (said.service_name, said.serve_port, said.max_threads) == ("shop", 0, 4)


def test_a_list_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, REQUIRED='["a,b", "c"]').required == ("a,b", "c")
    assert read(monkeypatch, REQUIRED="").required == ()


def test_options_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    said = read(
        monkeypatch,
        CHECKS__ORDERS_DB__TIMEOUT_SECONDS="2",
        CHECKS__ORDERS_DB__CRITICAL="false",
        CHECKS__ORDERS_DB__PROBES="live, startup",
        CHECKS__orders_db__Tags='["db"]',
        CHECKS__SEARCH='{"enabled": false, "failure_threshold": 3}',
    )
    options = said.options_of("Orders-DB")
    assert options == CheckSettings(
        timeout_seconds=2.0, critical=False, probes=("live", "startup"), tags=("db",)
    )
    assert options is not None
    assert options.model_fields_set == {"timeout_seconds", "critical", "probes", "tags"}
    assert said.options_of("search") == CheckSettings(enabled=False, failure_threshold=3)
    assert said.options_of("nothing") is None


def test_one_check_may_be_switched_off_and_says_nothing_more() -> None:
    code = (
        "import asyncio; from cqrs_ddd_health import HealthRegistry; r = HealthRegistry();"
        "r.register('db', lambda: True); r.register('search', lambda: False);"
        "print(asyncio.run(r.check_all()))"
    )
    run = in_a_process(code, CQRS_HEALTH_CHECKS__SEARCH__ENABLED="false")
    assert run.stdout == "{'db': 'up'}\n"


def test_a_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "health.env"
    file.write_text(
        "OTHER=1\nCQRS_HEALTH_DETAIL=full\nCQRS_HEALTH_CHECKS__DB__TAGS=a,b\n"
        "CQRS_HEALTH_SERVICE_NAME='of the file'\n"
    )
    said = read(monkeypatch, ENV_FILE=str(file), SERVICE_NAME="of the environment")
    assert (said.detail, said.service_name) == ("full", "of the environment")
    assert said.options_of("db") == CheckSettings(tags=("a", "b"))


def test_a_directory_of_secrets_with_nested_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "CQRS_HEALTH_CHECKS__DB__TIMEOUT_SECONDS").write_text("3\n")
    (tmp_path / "cqrs_health_service_name").write_text("shop\n")
    (tmp_path / "CQRS_HEALTH_REQUIRED").write_text("a, b\n")
    (tmp_path / "other").write_text("nothing of ours")
    said = read(monkeypatch, SECRETS_DIR=str(tmp_path), CHECKS__DB__CRITICAL="no")
    assert said.options_of("db") == CheckSettings(timeout_seconds=3.0, critical=False)
    assert (said.service_name, said.required) == ("shop", ("a", "b"))


def test_the_environment_wins_over_the_file_and_the_file_over_the_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, secrets = tmp_path / "env", tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "CQRS_HEALTH_SERVICE_NAME").write_text("secret")
    (secrets / "CQRS_HEALTH_SERVICE_VERSION").write_text("secret")
    (secrets / "CQRS_HEALTH_INSTANCE").write_text("secret")
    file.write_text("CQRS_HEALTH_SERVICE_NAME=file\nCQRS_HEALTH_SERVICE_VERSION=file\n")
    said = read(monkeypatch, ENV_FILE=str(file), SECRETS_DIR=str(secrets), SERVICE_NAME="env")
    assert (said.service_name, said.service_version, said.instance) == ("env", "file", "secret")


@pytest.mark.parametrize(("name", "what"), [("ENV_FILE", "file"), ("SECRETS_DIR", "directory")])
def test_a_file_or_directory_that_is_not_there_is_refused(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = refused(monkeypatch, **{name: str(tmp_path / "none")})
    assert said.startswith(f"CQRS_HEALTH_{name} must name a")
    assert what in said
    assert read(monkeypatch, **{name: ""})


def test_a_file_that_is_no_text_is_refused_without_its_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_bytes(f"CQRS_HEALTH_INSTANCE={SECRET}\xff".encode("latin-1"))
    said = refused(monkeypatch, ENV_FILE=str(file))
    assert "CQRS_HEALTH_ENV_FILE" in said
    assert "must be UTF-8" in said
    assert SECRET not in said


def test_a_directory_of_secrets_that_is_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "CQRS_HEALTH_INSTANCE").write_text(SECRET * 3_000_000)
    said = refused(monkeypatch, SECRETS_DIR=str(tmp_path))
    assert "CQRS_HEALTH_SECRETS_DIR" in said
    assert SECRET not in said


def test_a_dotenv_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, ENV_FILE="/proc/self/mem")  # open to us, and not to be read
    assert "CQRS_HEALTH_ENV_FILE" in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEARTBEAT_TIMEOUT_SECONDS", SECRET),
        ("HEARTBEAT_TIMEOUT_SECONDS", "-1"),
        ("HEARTBEAT_TIMEOUT_SECONDS", "nan"),
        ("HEARTBEAT_TIMEOUT_SECONDS", ""),
        ("CHECK_TIMEOUT_SECONDS", "0"),
        ("CHECK_TIMEOUT_SECONDS", "inf"),
        ("DETAIL", SECRET),
        ("REQUIRED", f"[{SECRET}"),
        ("REQUIRED", f'["{SECRET}", 3]'),
        ("REQUIRED", f"{SECRET},\u202e"),
        ("SERVICE_NAME", ""),
        ("SERVICE_NAME", SECRET * 20),
        ("SERVE_PORT", SECRET),
        ("SERVE_PORT", "65536"),
        ("MAX_THREADS", "0"),
        ("CHECKS", SECRET),
        ("CHECKS", f'["{SECRET}"]'),
        ("CHECKS__DB", SECRET),
        ("CHECKS__DB", f'{{"{SECRET}'),
        ("CHECKS__DB__TIMEOUT_SECONDS", SECRET),
        ("CHECKS__DB__TIMEOUT_SECONDS", "0"),
        ("CHECKS__DB__CRITICAL", SECRET),
        ("CHECKS__DB__PROBES", f"ready,{SECRET}"),
        ("CHECKS__DB__PROBES", "[ready"),
        ("CHECKS__DB__FAILURE_THRESHOLD", "1.5"),
        ("CHECKS__DB__PASSWORD", SECRET),
    ],
)
def test_a_malformed_value_names_its_variable_and_hides_itself(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(monkeypatch, **{variable: value})
    assert f"CQRS_HEALTH_{variable}: " in said
    assert SECRET not in said


def test_an_unknown_option_of_a_check_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(monkeypatch, CHECKS__DB__TIMOUT_SECONDS=SECRET, CHECKS__DB__A__B=SECRET)
    assert (
        "CHECKS__DB__TIMOUT_SECONDS: there is no such option, did you mean TIMEOUT_SECONDS?" in said
    )
    assert "CQRS_HEALTH_CHECKS__DB__A: there is no such option" in said
    assert SECRET not in said


def test_a_traceback_shows_no_value_either() -> None:
    code = "from cqrs_ddd_health import HealthRegistry; HealthRegistry()"
    for variable in ("SERVE_PORT", "CHECKS__DB__PASSWORD", "CHECKS__DB", "CHECKS", "DETAIL"):
        run = in_a_process(code, **{f"CQRS_HEALTH_{variable}": SECRET})
        assert run.returncode == 1
        assert f"SettingsError: CQRS_HEALTH_{variable}: " in run.stderr
        assert SECRET not in run.stderr


def test_unknown_variables_are_one_warning_a_process_with_a_suggestion() -> None:
    code = (
        "import logging; logging.basicConfig(format='%(levelname)s %(name)s %(message)s');"
        "from cqrs_ddd_health import HealthRegistry, HealthSettings;"
        "HealthSettings.from_environment(); HealthRegistry(); print(HealthSettings().detail)"
    )
    run = in_a_process(code, CQRS_HEALTH_DETIAL=SECRET, CQRS_HEALTH_WHATEVER_THAT_IS=SECRET)
    assert run.stdout == "safe\n"
    first, second = run.stderr.splitlines()
    said = "WARNING cqrs_ddd_health unknown variable CQRS_HEALTH_"
    assert first == f"{said}DETIAL is ignored, did you mean CQRS_HEALTH_DETAIL?"
    assert second == (f"{said}WHATEVER_THAT_IS is ignored (is it a service link of Kubernetes?)")


def test_an_unknown_variable_of_a_dotenv_file_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "env"
    file.write_text("cqrs_health_serve_prot=1\nOTHER=2\n")
    with caplog.at_level(logging.WARNING, "cqrs_ddd_health"):
        read(monkeypatch, ENV_FILE=str(file))
        read(monkeypatch, ENV_FILE=str(file))
        log_is_written()
    assert [record.getMessage() for record in caplog.records] == [
        "unknown variable CQRS_HEALTH_SERVE_PROT is ignored, did you mean CQRS_HEALTH_SERVE_PORT?"
    ]


def test_strictness_makes_unknown_variables_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "env"
    file.write_text(f"cqrs_health_serve_prot={SECRET}\n")
    monkeypatch.setenv("CQRS_HEALTH_ENV_FILE", str(file))
    monkeypatch.setenv("CQRS_HEALTH_DETAIL", "full")
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__DB__TAGS", "a")
    monkeypatch.setenv("CQRS_HEALTH_80_TCP_ADDR", SECRET)
    for _ in range(2):
        with pytest.raises(SettingsError) as caught:
            HealthSettings.from_environment(strict=True)
        assert str(caught.value) == (
            "unknown variable CQRS_HEALTH_80_TCP_ADDR (is it a service link of Kubernetes?); "
            "unknown variable CQRS_HEALTH_SERVE_PROT, did you mean CQRS_HEALTH_SERVE_PORT?"
        )
    log_is_written()
    assert caplog.records == []


def test_strictness_has_nothing_against_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_DETAIL", "full")
    assert HealthSettings.from_environment(strict=True).detail == "full"


def test_the_service_links_of_kubernetes_are_harmless() -> None:
    code = "from cqrs_ddd_health import HealthRegistry; print(HealthRegistry().settings.serve_port)"
    run = in_a_process(
        code,
        CQRS_HEALTH_PORT="tcp://10.0.0.1:80",
        CQRS_HEALTH_PORT_80_TCP="tcp://10.0.0.1:80",
        CQRS_HEALTH_PORT_80_TCP_ADDR="10.0.0.1",
        CQRS_HEALTH_PORT_80_TCP_PORT="80",
        CQRS_HEALTH_PORT_80_TCP_PROTO="tcp",
        CQRS_HEALTH_SERVICE_HOST="10.0.0.1",
        CQRS_HEALTH_SERVICE_PORT="80",
    )
    assert (run.returncode, run.stdout) == (0, "8000\n")
    assert len(run.stderr.splitlines()) == 7


def test_settings_in_code_are_as_strict_about_checks() -> None:
    options = CheckSettings(critical=False)
    assert HealthSettings(checks={"Orders-DB": options}).options_of("orders db") is not None
    bad: list[object] = [{"db": {"nope": SECRET}}, {"db": 1}, 5, {"db": {"tags": [SECRET, 1]}}]
    for checks in bad:
        with pytest.raises(ValidationError, match="checks") as caught:
            HealthSettings.model_validate({"checks": checks})
        assert SECRET not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HealthSettings().detail = "full"


# --- the more specific wins


class Typed:
    """A check that says how long it may take."""

    timeout_seconds = 1.5

    async def check(self) -> CheckResult:
        return CheckResult()


LAYERS = ("attribute", "options", "keyword", "check environment")


@pytest.mark.parametrize("default", [False, True], ids=["no default set", "default set"])
@pytest.mark.parametrize("count", range(len(LAYERS) + 1))
def test_the_more_specific_timeout_wins(
    count: int, default: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = LAYERS[:count]
    if default:
        monkeypatch.setenv("CQRS_HEALTH_CHECK_TIMEOUT_SECONDS", "0.5")
    if "check environment" in said:
        monkeypatch.setenv("CQRS_HEALTH_CHECKS__ORDERS_DB__TIMEOUT_SECONDS", "4.5")
    registry = HealthRegistry()
    registry.register(
        "Orders-DB",
        Typed() if "attribute" in said else (lambda: True),
        options=CheckSettings(timeout_seconds=2.5) if "options" in said else None,
        timeout_seconds=3.5 if "keyword" in said else None,
    )
    slot = registry._engine.catalog.slots["Orders-DB"]
    expected = [0.5 if default else 5.0, 1.5, 2.5, 3.5, 4.5][count]
    assert slot.options.timeout_seconds == expected


async def test_the_environment_wins_for_all_that_it_says_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__DB__PROBES", "live")
    registry = HealthRegistry()
    registry.register(
        "db",
        lambda: True,
        probes=("ready",),
        tags=("of the keyword",),
        options=CheckSettings(tags=("of the options",), critical=False),
    )
    row = (await registry.report()).component("db")
    assert isinstance(row, ComponentStatus)
    assert (row.probes, row.tags, row.critical) == (("live",), ("of the keyword",), False)


@pytest.mark.parametrize(
    ("variable", "value", "origin"),
    [
        ("CHECKS", '{"db": {"url": "x"}}', "CQRS_HEALTH_CHECKS"),
        ("CHECKS__DB", '{"url": "x"}', "CQRS_HEALTH_CHECKS__DB"),
        ("CHECKS__DB__URL", "x", "CQRS_HEALTH_CHECKS__DB__URL"),
        ("CHECKS", '{"db": {}}', "HealthSettings in code"),
        ("CHECKS", '{"db": 7}', "HealthSettings in code"),
        ("CHECKS", "no JSON", "HealthSettings in code"),
    ],
)
def test_where_a_value_was_said(
    variable: str, value: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CQRS_HEALTH_{variable}", value)
    assert HealthSettings.origin_of("CQRS_HEALTH_CHECKS__DB__URL") == origin


def test_the_first_of_all_places_has_the_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "health.env").write_text("CQRS_HEALTH_DETAIL=full\n")
    (tmp_path / "secrets").mkdir()
    for name in ("CQRS_HEALTH_DETAIL", "CQRS_HEALTH_INSTANCE"):
        (tmp_path / "secrets" / name).write_text("x")
    monkeypatch.setenv("CQRS_HEALTH_ENV_FILE", str(tmp_path / "health.env"))
    monkeypatch.setenv("CQRS_HEALTH_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("CQRS_HEALTH_SERVE_PORT", "1")
    assert {
        name: HealthSettings.origin_of(f"CQRS_HEALTH_{name}").partition(" in ")[2]
        for name in ("SERVE_PORT", "DETAIL", "INSTANCE")
    } == {
        "SERVE_PORT": "",
        "DETAIL": str(tmp_path / "health.env"),
        "INSTANCE": str(tmp_path / "secrets"),
    }
