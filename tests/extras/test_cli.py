"""What `cqrs-health` refuses: exit code 2, what was wrong, and what would be right."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import LOCALHOST
from tests.service import bare_environment, run_cli

MODULE = """
from cqrs_ddd_health import CheckOptions, HealthRegistry

registry = HealthRegistry()
registry.register("yes", lambda: True)
empty = HealthRegistry()
nothing = 7
disabled = HealthRegistry()
disabled.register("off", lambda: True, options=CheckOptions(enabled=False))
expecting = HealthRegistry()
expecting.expect("outbox", grace_seconds=0)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "my_health.py").write_text(MODULE)
    return tmp_path


def refused(directory: Path, *arguments: str, prelude: str = "", **variables: str) -> str:
    """What it says when it ends with code 2, which is all that it may do here."""
    environment = bare_environment(directory, **variables)
    done = run_cli(*arguments, environment=environment, directory=directory, prelude=prelude)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_nothing_to_serve(directory: Path) -> None:
    said = refused(directory, "serve", "--port", "0")
    assert "there is nothing to serve" in said
    assert "--registry myapp.health:registry" in said
    assert "CQRS_HEALTH_SERVE_REGISTRY" in said
    assert "--demo" in said


def test_a_registry_without_checks_is_nothing_to_serve(directory: Path) -> None:
    said = refused(directory, "serve", "--port", "0", "--registry", "my_health:empty")
    assert "there is nothing to serve" in said


@pytest.mark.parametrize("command", ["serve", "check"])
def test_checks_that_are_all_switched_off_are_nothing(directory: Path, command: str) -> None:
    said = refused(directory, command, "--registry", "my_health:disabled")
    assert f"there is nothing to {command}" in said
    said = refused(
        directory,
        command,
        CQRS_HEALTH_CHECKS__DB__URL="postgresql+no_such_driver://user:hunter2@host/db",
        CQRS_HEALTH_CHECKS__DB__ENABLED="false",
    )
    assert f"there is nothing to {command}" in said


@pytest.mark.parametrize(
    ("registry", "variables", "row"),
    [
        ("expecting", {}, "outbox"),
        ("empty", {"CQRS_HEALTH_REQUIRED": "orders"}, "orders"),
    ],
)
def test_workers_and_what_is_required_are_something_to_check(
    directory: Path, registry: str, variables: dict[str, str], row: str
) -> None:
    environment = bare_environment(directory, **variables)
    arguments = ["check", "--registry", f"my_health:{registry}"]
    done = run_cli(*arguments, environment=environment, directory=directory)
    assert done.returncode == 1
    assert row in done.stdout


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:registry", "No module named 'no_such_module'"),
        ("my_health:no_such_name", "no_such_name"),
        ("my_health", "my_health"),
        (":registry", "':registry'"),
        ("my_health:nothing", "an instance of int"),
        (".relative:registry", "'.relative:registry'"),
    ],
)
def test_a_registry_that_is_none(directory: Path, path: str, reason: str) -> None:
    said = refused(directory, "serve", "--port", "0", "--registry", path)
    assert path in said
    assert reason in said


def test_a_variable_that_names_no_registry(directory: Path) -> None:
    assert "'my_health:no'" in refused(
        directory, "serve", CQRS_HEALTH_SERVE_REGISTRY="my_health:no"
    )


def test_authorized_without_a_token_to_authorize_by(directory: Path) -> None:
    said = refused(directory, "serve", "--demo", "--port", "0", CQRS_HEALTH_DETAIL="authorized")
    assert "set CQRS_HEALTH_BEARER_TOKEN, or give an authorizer" in said


def test_a_module_that_cannot_be_imported(directory: Path) -> None:
    (directory / "broken.py").write_text("import a_library_that_is_not_here")
    said = refused(directory, "serve", "--port", "0", "--registry", "broken:registry")
    assert "a_library_that_is_not_here" in said


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_module_that_exits(directory: Path, command: str) -> None:
    (directory / "script.py").write_text("raise SystemExit(0)")
    said = refused(directory, command, "--registry", "script:registry")
    assert "no registry at 'script:registry': SystemExit: 0" in said


def test_a_module_that_says_what_it_read_in_the_environment(directory: Path) -> None:
    (directory / "broken.py").write_text("import os; raise KeyError(*os.environ.values())")
    url = "redis://user:sw0rdfish@host/0"
    said = refused(
        directory, "check", "--registry", "broken:registry", CQRS_HEALTH_CHECKS__CACHE__URL=url
    )
    assert "KeyError" in said
    assert "sw0rdfish" not in said


def test_a_port_in_use(directory: Path) -> None:
    with socket.create_server((LOCALHOST, 0)) as other:
        port = other.getsockname()[1]
        said = refused(directory, "serve", "--port", str(port), "--registry", "my_health:registry")
    assert f"cannot listen on {LOCALHOST}:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_there_is_not(directory: Path, port: str) -> None:
    said = refused(directory, "serve", f"--port={port}", "--registry", "my_health:registry")
    assert f"port must be from 0 to 65535, got {port} (--host, --port)" in said


@pytest.mark.parametrize("host", ["256.1.1.1", "192.0.2.1", "::g"])
def test_a_host_that_is_not_ours(directory: Path, host: str) -> None:
    said = refused(
        directory, "serve", "--port", "0", "--host", host, "--registry", "my_health:registry"
    )
    assert "cannot listen on" in said
    assert host in said


def test_a_port_that_is_no_number(directory: Path) -> None:
    assert "--port" in refused(directory, "serve", "--port", "many")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CQRS_HEALTH_SERVE_PORT", "65536"),
        ("CQRS_HEALTH_SERVE_PORT", "many"),
        ("CQRS_HEALTH_DETAIL", "everything"),
        ("CQRS_HEALTH_HTTP_DEADLINE_SECONDS", "0"),
        ("CQRS_HEALTH_CHECKS__DATABASE__TIMEOUT_SECONDS", "nan"),
        ("CQRS_HEALTH_CHECKS__DATABASE__TIMEUOT_SECONDS", "1"),
        ("CQRS_HEALTH_ENV_FILE", "/no/such/file"),
        ("CQRS_HEALTH_SECRETS_DIR", "/no/such/directory"),
    ],
)
def test_a_malformed_environment(directory: Path, variable: str, value: str) -> None:
    assert variable in refused(directory, "serve", "--demo", "--port", "0", **{variable: value})


@pytest.mark.parametrize("arguments", [["--registry", "my_health:registry"], []])
def test_a_malformed_environment_whatever_is_served(directory: Path, arguments: list[str]) -> None:
    said = refused(directory, "serve", *arguments, CQRS_HEALTH_DETAIL="everything")
    assert "CQRS_HEALTH_DETAIL" in said


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize("what", [["--registry", "my_health:registry"], ["--demo"], []])
def test_unknown_variables_are_refused_by_the_strict(
    directory: Path, command: str, what: list[str]
) -> None:
    said = refused(
        directory, command, "--strict-settings", *what, CQRS_HEALTH_DETIAL="x", CQRS_HEALTH_X="y"
    )
    assert said == (
        "cqrs-health: unknown variable CQRS_HEALTH_DETIAL, did you mean CQRS_HEALTH_DETAIL?; "
        "unknown variable CQRS_HEALTH_X (is it a service link of Kubernetes?)\n"
    )


def test_unknown_variables_are_a_warning_otherwise(directory: Path) -> None:
    environment = bare_environment(directory, CQRS_HEALTH_DETIAL="x")
    arguments = ["check", "--registry", "my_health:registry"]
    done = run_cli(*arguments, environment=environment, directory=directory)
    assert done.returncode == 0
    assert done.stderr == (
        "unknown variable CQRS_HEALTH_DETIAL is ignored, did you mean CQRS_HEALTH_DETAIL?\n"
    )


SLIP = "CQRS_HEALTH_CHECKS__YSE__TIMEOUT_SECONDS"
COMPLAINT = (
    "CQRS_HEALTH_CHECKS__YSE: there is no check 'yse', did you mean CQRS_HEALTH_CHECKS__YES?\n"
)


def test_options_of_a_check_that_there_is_not_are_told_of(directory: Path) -> None:
    arguments = ["check", "--registry", "my_health:registry"]
    environment = bare_environment(directory, **{SLIP: "2"})
    done = run_cli(*arguments, environment=environment, directory=directory)
    assert (done.returncode, done.stderr) == (0, COMPLAINT)
    said = refused(directory, *arguments, "--strict-settings", **{SLIP: "2"})
    assert said == f"cqrs-health: {COMPLAINT}"


@pytest.mark.parametrize(
    ("target", "why"),
    [("/dev/full", "cannot write the output: No space left"), ("&-", "standard output is closed")],
)
@pytest.mark.parametrize(
    "command", ["check --registry my_health:registry", "--version", "check --demo --explain"]
)
def test_an_output_that_cannot_be_written_to(
    directory: Path, target: str, why: str, command: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m cqrs_ddd_health.cli {command} >{target}"],
        env=bare_environment(directory),
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"cqrs-health: {why}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["postgresql"], {}),
        ([], {"CQRS_HEALTH_HEARTBEAT_STORE_URL": "postgresql+asyncpg://user:hunter2@host/db"}),
    ],
)
def test_the_table_of_shared_heartbeats(
    directory: Path, arguments: list[str], variables: dict[str, str]
) -> None:
    environment = bare_environment(directory, **variables)
    done = run_cli("export", "ddl", *arguments, environment=environment, directory=directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("CREATE TABLE IF NOT EXISTS cqrs_health_heartbeats (")
    assert done.stdout.endswith(";\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "which database? Name postgresql"), (["oracle"], "no table for that: it may be of")],
)
def test_no_table_for_a_database_that_is_not_known(
    directory: Path, arguments: list[str], words: str
) -> None:
    assert words in refused(directory, "export", "ddl", *arguments)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gopher://user:hunter2@host", "there is no heartbeat store for gopher://"),
        ("postgresql+asyncpg://user:hunter2@", "it names no host"),
    ],
)
def test_a_store_that_there_is_not(directory: Path, url: str, words: str) -> None:
    said = refused(
        directory,
        "check",
        "--registry",
        "my_health:registry",
        CQRS_HEALTH_HEARTBEAT_STORE_URL=url,
    )
    assert f"CQRS_HEALTH_HEARTBEAT_STORE_URL: {words}" in said
    assert "hunter2" not in said


def test_beats_in_memory_are_shared_with_nobody(directory: Path) -> None:
    environment = bare_environment(directory, CQRS_HEALTH_HEARTBEAT_STORE_URL="memory://")
    arguments = ["check", "--registry", "my_health:registry"]
    done = run_cli(*arguments, environment=environment, directory=directory)
    assert done.returncode == 0
    assert "heartbeat_store" not in done.stdout


def test_demo_and_registry_exclude_each_other(directory: Path) -> None:
    said = refused(directory, "serve", "--demo", "--registry", "my_health:registry")
    assert "not allowed with" in said


def test_no_command(directory: Path) -> None:
    assert "COMMAND" in refused(directory)


def test_a_missing_sqlalchemy(directory: Path) -> None:
    said = refused(
        directory, "serve", "--demo", "--port", "0", prelude="sys.modules['sqlalchemy'] = None"
    )
    assert "pip install 'cqrs-ddd-health[sqlalchemy]'" in said


def test_a_home_that_cannot_be_written_to(directory: Path) -> None:
    (directory / "a file").touch()
    said = refused(
        directory, "serve", "--demo", "--port", "0", XDG_STATE_HOME=str(directory / "a file")
    )
    assert "a file" in said
    assert "XDG_STATE_HOME" in said


def test_help_needs_no_extra(directory: Path) -> None:
    done = run_cli(
        "serve",
        "--help",
        environment=bare_environment(directory),
        directory=directory,
        prelude="sys.modules['sqlalchemy'] = None",
    )
    assert done.returncode == 0
    assert "CQRS_HEALTH_" in done.stdout
