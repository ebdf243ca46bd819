"""The FastAPI service of the examples, as a new user starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import LOCALHOST, free_port, reachable, wait_until
from tests.service import bare_environment

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def service(tmp_path: Path) -> Generator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    command = ["-m", "uvicorn", "examples.fastapi_service:app", "--port", str(port)]
    environment = bare_environment(
        tmp_path,
        CQRS_HEALTH_CHECKS__CACHE__URL=f"tcp://{LOCALHOST}:{port}",  # itself: there it is
        CQRS_HEALTH_DRAIN_SECONDS="1",
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, cwd=REPOSITORY, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: reachable(LOCALHOST, port))
        with httpx.Client(base_url=f"http://{LOCALHOST}:{port}", timeout=20) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_it_tells_how_it_is_and_is_drained(
    service: tuple[subprocess.Popen[bytes], httpx.Client],
) -> None:
    process, client = service
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"ready": True, "components": {"cache": "up"}},
    )
    report = client.get("/health/report").json()
    assert {row["name"] for row in report["components"]} == {"temporary_files", "cache"}
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/").json() == {"see": "/health/page"}
    assert process.wait(20) in {0, -signal.SIGTERM}  # which uvicorn raises again in the end


def test_its_docs_show_what_is_answered(
    service: tuple[subprocess.Popen[bytes], httpx.Client],
) -> None:
    _, client = service
    assert client.get("/docs").status_code == 200
    document: dict[str, Any] = json.loads(client.get("/openapi.json").content)
    answers = document["paths"]["/health/report"]["get"]["responses"]
    shown = answers["200"]["content"]["application/json"]["schema"]
    assert shown == {"$ref": "#/components/schemas/HealthReport"}
    assert {"ComponentStatus", "Failure", "HeartbeatRecord"} <= document["components"][
        "schemas"
    ].keys()
