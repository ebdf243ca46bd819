"""One process beats and another shows it, over every store, as a new user would try it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents import blocks_of
from tests.processes import wait_until
from tests.servers import OwnRedis
from tests.service import Service, bare_environment
from tests.sharing import is_gone, reading, state, until
from tests.workers import OwnWorker

TIMEOUT_SECONDS = 1.0
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def namespace() -> str:
    return secrets.token_hex(8)


async def test_one_beats_the_other_shows_it_and_sees_it_killed(
    store_url: str, namespace: str
) -> None:
    async with reading(store_url, namespace) as registry:
        with OwnWorker(store_url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            report = await until(registry, state("up"))
            assert [record.worker for record in report.heartbeats] == ["outbox"]
            worker.kill()
            report = await until(registry, state("down"))
            (record,) = report.heartbeats
            assert record.age_seconds is not None
            assert record.age_seconds > TIMEOUT_SECONDS
            failure = report.components[1].failure
            assert failure is not None
            assert failure.kind == "stale"


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_a_child_of_multiprocessing_takes_its_rows_along_unless_it_crashes(
    own_redis: OwnRedis, namespace: str, method: str
) -> None:
    url = own_redis.url
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=1, namespace=namespace, child=method) as worker:
            await until(registry, state("up"))
            assert worker.end() == (0, "")
            await until(registry, is_gone)
        with OwnWorker(url, timeout_seconds=1, namespace=namespace, child=method) as worker:
            await until(registry, state("up"))
            _, said = worker.end("crash")
            assert said.endswith("LookupError: told to crash\n")
            await until(registry, state("down"))


async def test_namespaces_see_nothing_of_each_other(store_url: str, namespace: str) -> None:
    async with (
        reading(store_url, namespace) as ours,
        reading(store_url, f"{namespace}-other") as others,
    ):
        with OwnWorker(store_url, timeout_seconds=5, namespace=namespace):
            await until(ours, state("up"))
            assert (await others.report()).component("outbox") is None


def test_the_example_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    for block in blocks_of(README):
        if block.info.startswith("python title="):
            (tmp_path / block.info.partition('"')[2].rstrip('"')).write_text(block.source)
    environment = bare_environment(
        tmp_path,
        CQRS_HEALTH_HEARTBEAT_STORE_URL=f"sqlite+aiosqlite:///{tmp_path / 'beats.sqlite3'}",
        CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS="2",
    )
    worker = subprocess.Popen([sys.executable, "worker.py"], env=environment, cwd=tmp_path)
    try:
        with Service.of_cli(
            "--registry", "web:registry", environment=environment, directory=tmp_path
        ) as service:

            def ready() -> Any:
                return service.get("/health/ready").json

            up = {"ready": True, "components": {"outbox_worker": "up"}}
            assert wait_until(lambda: ready() == up), ready()
            worker.kill()
            down = {"ready": False, "components": {"outbox_worker": "down"}}
            assert wait_until(lambda: ready() == down), ready()
    finally:
        worker.kill()
        worker.wait(20)
    assert service.complaints == ""
