"""A secret in every setting that may hold one is said by no process, at any level of detail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import LOCALHOST, free_port
from tests.service import Service, bare_environment, run_cli

SECRET = "c4n4ry-tr0ub4dor"
BELOW = ["", "/live", "/ready", "/startup", "/report", "/report/db", "/report/web", "/page"]
PATHS = [*(f"/health{below}" for below in BELOW), "/metrics"]


def environment_of(home: Path, detail: str) -> dict[str, str]:
    port = free_port()
    said = {
        "DETAIL": detail,
        "BEARER_TOKEN": SECRET,
        "HEARTBEAT_STORE_URL": f"redis://:{SECRET}@{LOCALHOST}:{port}",
        "CHECKS__DB__URL": f"postgresql+asyncpg://app:{SECRET}@{LOCALHOST}:{port}/orders",
        "CHECKS__CACHE__URL": f"redis://:{SECRET}@{LOCALHOST}:{port}",
        "CHECKS__WEB__URL": f"http://{LOCALHOST}:{port}/?token={SECRET}",
        "CHECKS__OWN__URL": "module:own:check",
    }
    (home / "own.py").write_text(
        "import os\n"
        "def check():\n"
        "    raise LookupError('no row for ' + os.environ['CQRS_HEALTH_BEARER_TOKEN'])\n"
    )
    variables = {f"CQRS_HEALTH_{name}": value for name, value in said.items()}
    return bare_environment(home, PYTHONPATH=str(home), **variables)


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--explain",)], ids=" ".join)
def test_a_look_from_the_terminal(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_cli(
        "check", *arguments, environment=environment_of(tmp_path, "full"), directory=tmp_path
    )
    assert "db" in done.stdout
    assert "***" in done.stdout or "LookupError" not in done.stdout
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("detail", ["safe", "full", "authorized"])
def test_a_service_and_its_log(tmp_path: Path, detail: str) -> None:
    environment = environment_of(tmp_path, detail)
    with Service.of_cli(environment=environment, directory=tmp_path) as service:
        said = ""
        for path in PATHS:
            for headers in ({}, {"authorization": f"Bearer {SECRET}"}):
                answer = service.get(path, **headers)
                assert answer.code in {200, 503}
                said += f"{answer.headers} {answer.body.decode()}"
        assert "cqrs_health_component_up" in said
        is_shown = "no row for ***" in said
        assert is_shown == (detail != "safe")
        said += "".join(service.transitions) + service.complaints
    assert SECRET not in said
    assert "LookupError" in said
