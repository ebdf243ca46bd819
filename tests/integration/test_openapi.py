"""The OpenAPI documents of both applications, held against them by schemathesis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.fastapi import health_router
from cqrs_ddd_health.web.openapi import openapi
from tests.core.actors import Told
from tests.core.asgi_client import Application

from .serving import served

NAMES = ["database", "a/b"]
TOKEN = "0123456789abcdef"


def registry_of(detail: Detail) -> HealthRegistry:
    """Return a registry that is healthy: to schemathesis any 503 is a failure of the server."""
    settings = HealthSettings.model_validate({"detail": detail, "bearer_token": TOKEN})
    registry = HealthRegistry(settings=settings)
    for name in NAMES:
        registry.register(name, Told(), tags=["db"], probes=("live", "ready", "startup"))
    registry.heartbeat("worker", instance="host:1")
    return registry


def run(document: str, client: httpx.Client, directory: Path, config: str = "") -> str:
    """Have every check of schemathesis made, and return what it says."""
    (directory / "schemathesis.toml").write_text(config)
    command = [sys.executable, "-m", "schemathesis.cli", "run", document]
    command += ["--url", str(client.base_url), "--checks", "all", "--max-examples", "15"]
    command += ["--generation-deterministic", "--no-color"]
    done = subprocess.run(
        command, cwd=directory, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plain(registry: HealthRegistry) -> Application:
    return health_app(registry)


def routed(registry: HealthRegistry) -> Application:
    app = FastAPI()
    app.include_router(health_router(registry))
    return app


@pytest.mark.parametrize(("detail", "name"), [("safe", None), ("authorized", "a/b")])
def test_the_application_is_as_its_document_says(
    tmp_path: Path, detail: Detail, name: str | None
) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(openapi()))
    with served(plain(registry_of(detail))) as client:
        assert "Tested: 7" in run(str(document), client, tmp_path, _config(name))


@pytest.mark.parametrize(("detail", "name"), [("full", None), ("authorized", "a/b")])
def test_and_so_is_that_of_fastapi(tmp_path: Path, detail: Detail, name: str | None) -> None:
    with served(routed(registry_of(detail))) as client:
        document = str(client.base_url.join("/openapi.json"))
        assert "Tested: 7" in run(document, client, tmp_path, _config(name))


def _config(name: str | None) -> str:
    if name is None:
        return ""
    return f'[parameters]\n"path.component" = "{name}"\n"query.tag" = ["db"]\n'


def test_both_documents_have_the_same_paths_and_answers() -> None:
    app = FastAPI()
    app.include_router(health_router(HealthRegistry()))
    theirs, ours = app.openapi()["paths"], openapi()["paths"]
    assert theirs.keys() == ours.keys()
    for path, operations in ours.items():
        mine, other = operations["get"], theirs[path]["get"]
        assert other["summary"] == mine["summary"]
        assert other.get("parameters", []) == mine["parameters"]
        assert other["responses"].keys() == mine["responses"].keys()
        for code, answer in mine["responses"].items():
            assert other["responses"][code]["content"].keys() == answer["content"].keys()
