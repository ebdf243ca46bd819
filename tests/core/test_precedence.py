"""Who has the say: real processes with real environments, dotenv files and secret files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.actors import PATIENCE_SECONDS

# What Kubernetes puts into every container beside a Service named cqrs-health.
SERVICE_LINKS = {
    "CQRS_HEALTH_PORT": "tcp://10.0.0.1:80",
    "CQRS_HEALTH_PORT_80_TCP": "tcp://10.0.0.1:80",
    "CQRS_HEALTH_PORT_80_TCP_ADDR": "10.0.0.1",
    "CQRS_HEALTH_PORT_80_TCP_PORT": "80",
    "CQRS_HEALTH_PORT_80_TCP_PROTO": "tcp",
    "CQRS_HEALTH_SERVICE_HOST": "10.0.0.1",
    "CQRS_HEALTH_SERVICE_PORT": "80",
    "CQRS_HEALTH_SERVICE_PORT_HTTP": "80",
}

IN_CODE = """
import json
from cqrs_ddd_health import CheckOptions, HealthRegistry

class Typed:
    timeout_seconds = 9.0
    async def check(self): ...

registry = HealthRegistry()
registry.register_from_settings()
registry.register("plain", lambda: True)
registry.register("typed", Typed())
registry.register("options", Typed(), options=CheckOptions(timeout_seconds=8, tags=("a",)))
registry.register("keyword", Typed(), timeout_seconds=7, options=CheckOptions(timeout_seconds=8))
print(json.dumps({name: registry.origins(name) for name in registry.names}))
"""

Origins = dict[str, dict[str, list[object]]]


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CQRS_")}
    prefixed = {f"CQRS_HEALTH_{name}": value for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **SERVICE_LINKS, **prefixed},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def origins(**variables: str) -> Origins:
    done = run(IN_CODE, **variables)
    assert done.returncode == 0, done.stderr
    found: Origins = json.loads(done.stdout)
    return found


def timeouts(found: Origins) -> dict[str, list[object]]:
    return {name: options["timeout_seconds"] for name, options in found.items()}


def test_without_a_word_from_the_environment_code_has_the_say() -> None:
    found = origins()
    assert timeouts(found) == {
        "plain": [5.0, "default"],
        "typed": [9.0, "the check's timeout_seconds"],
        "options": [8.0, "options= in code"],
        "keyword": [7.0, "a keyword in code"],
    }
    assert found["options"]["tags"] == [["a"], "options= in code"]
    assert found["options"]["critical"] == [True, "default"]


def test_the_general_environment_is_only_more_specific_than_the_default() -> None:
    assert timeouts(origins(CHECK_TIMEOUT_SECONDS="2")) == {
        "plain": [2.0, "CQRS_HEALTH_CHECK_TIMEOUT_SECONDS"],
        "typed": [9.0, "the check's timeout_seconds"],
        "options": [8.0, "options= in code"],
        "keyword": [7.0, "a keyword in code"],
    }


def test_the_environment_of_one_check_has_the_last_say() -> None:
    found = timeouts(
        origins(
            CHECK_TIMEOUT_SECONDS="2",
            CHECKS__KEYWORD__TIMEOUT_SECONDS="1",
            CHECKS__TYPED='{"timeout_seconds": 3}',
        )
    )
    assert found["keyword"] == [1.0, "CQRS_HEALTH_CHECKS__KEYWORD__TIMEOUT_SECONDS"]
    assert found["typed"] == [3.0, "CQRS_HEALTH_CHECKS__TYPED"]


def test_the_environment_wins_over_a_dotenv_file_and_that_over_a_secret_file(
    tmp_path: Path,
) -> None:
    dotenv, secrets = tmp_path / "health.env", tmp_path / "secrets"
    secrets.mkdir()
    dotenv.write_text("CQRS_HEALTH_CHECKS__PLAIN__TIMEOUT_SECONDS=3\n")
    for name, value in (("PLAIN", "4"), ("TYPED", "4")):
        (secrets / f"CQRS_HEALTH_CHECKS__{name}__TIMEOUT_SECONDS").write_text(value)
    files = {"ENV_FILE": str(dotenv), "SECRETS_DIR": str(secrets)}
    found = timeouts(origins(**files))
    variable = "CQRS_HEALTH_CHECKS__PLAIN__TIMEOUT_SECONDS"
    assert found["plain"] == [3.0, f"{variable} in {dotenv}"]
    assert found["typed"] == [4.0, f"{variable.replace('PLAIN', 'TYPED')} in {secrets}"]
    found = timeouts(origins(**files, CHECKS__PLAIN__TIMEOUT_SECONDS="2"))
    assert found["plain"] == [2.0, variable]


def test_json_in_the_environment_is_named_for_nothing_but_what_it_says(tmp_path: Path) -> None:
    dotenv, secrets = tmp_path / "health.env", tmp_path / "secrets"
    secrets.mkdir()
    dotenv.write_text("CQRS_HEALTH_CHECKS__PLAIN__CRITICAL=false\n")
    (secrets / "cqrs_health_checks__plain").write_text('{"interval_seconds": 20}')
    (secrets / "unreadable").mkdir()
    found = origins(
        ENV_FILE=str(dotenv),
        SECRETS_DIR=str(secrets),
        CHECKS='{"plain": {"timeout_seconds": 2}, "typed": {}}',
    )["plain"]
    assert found["timeout_seconds"] == [2.0, "CQRS_HEALTH_CHECKS"]
    assert found["critical"] == [False, f"CQRS_HEALTH_CHECKS__PLAIN__CRITICAL in {dotenv}"]
    assert found["interval_seconds"] == [20.0, f"cqrs_health_checks__plain in {secrets}"]


def test_a_check_from_the_environment_has_options_from_there_too(tmp_path: Path) -> None:
    found = origins(
        CHECKS__DISK__URL=f"disk://{tmp_path}?min_free=1kB",
        CHECKS__DISK__CRITICAL="false",
        CHECKS__DISK__PROBES="live,ready",
        CHECKS__DISK__INITIAL_DELAY_SECONDS="0",
    )
    disk = found["disk"]
    assert disk["critical"] == [False, "CQRS_HEALTH_CHECKS__DISK__CRITICAL"]
    assert disk["probes"] == [["live", "ready"], "CQRS_HEALTH_CHECKS__DISK__PROBES"]
    assert disk["initial_delay_seconds"][0] == 0.0
    assert disk["timeout_seconds"] == [5.0, "default"]
    assert "url" not in disk


def test_settings_made_in_code_are_said_to_be() -> None:
    code = """
from cqrs_ddd_health import CheckSettings, HealthRegistry, HealthSettings
registry = HealthRegistry(settings=HealthSettings(checks={"a": CheckSettings(critical=False)}))
registry.register("a", lambda: True)
print(registry.origins("a")["critical"])
"""
    done = run(code)
    assert done.stdout == "OptionOrigin(value=False, origin='HealthSettings in code')\n"


def test_the_service_links_of_kubernetes_are_warned_of_and_nothing_else() -> None:
    done = run("from cqrs_ddd_health import HealthRegistry; print(HealthRegistry().names)")
    assert (done.returncode, done.stdout) == (0, "()\n")
    warned = done.stderr.splitlines()
    assert len(warned) == len(SERVICE_LINKS)
    assert all("is ignored" in line for line in warned)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"CHECKS__DB__URL": "posgresql://u:hunter2@h/db"},
            "CQRS_HEALTH_CHECKS__DB__URL: there is",
        ),
        (
            {"CHECKS__DB__TIMOUT_SECONDS": "1"},
            "CHECKS__DB__TIMOUT_SECONDS: there is no such option",
        ),
        ({"CHECKS__DB__TIMEOUT_SECONDS": "soon"}, "CQRS_HEALTH_CHECKS__DB__TIMEOUT_SECONDS: "),
        ({"CHECKS": '{"a-b": {}, "a_b": {}}'}, "CQRS_HEALTH_CHECKS: Value error, 'a-b' and 'a_b'"),
    ],
)
def test_what_is_wrong_is_said_under_the_name_of_its_variable(
    variables: dict[str, str], words: str
) -> None:
    done = run(IN_CODE, **variables)
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if "errors.SettingsError: " in line]
    assert words in said
    assert "hunter2" not in done.stderr


def test_a_name_that_is_not_there_has_no_origins() -> None:
    done = run("from cqrs_ddd_health import HealthRegistry; HealthRegistry().origins('db')")
    assert "UnknownNameError: there is no check 'db'" in done.stderr
