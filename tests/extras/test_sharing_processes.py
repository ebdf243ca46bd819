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
from tests.servers import OwnPostgres, OwnRedis, shared_servers
from tests.service import Service, bare_environment
from tests.sharing import is_gone, reading, state, until
from tests.workers import OwnWorker

TIMEOUT_SECONDS = 1.0
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'beats.sqlite3'}"
    if request.param == "redis":
        redis: OwnRedis = request.getfixturevalue("own_redis")
        return redis.url
    if request.param == "postgresql":
        postgres: OwnPostgres = request.getfixturevalue("own_postgres")
        return postgres.url("asyncpg")
    for server in shared_servers("mariadb"):
        return server.url_for("aiomysql")
    raise LookupError("no MariaDB")


@pytest.fixture
def namespace() -> str:
    return secrets.token_hex(8)


async def test_one_beats_the_other_shows_it_and_sees_it_killed(url: str, namespace: str) -> None:
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
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


async def test_a_worker_that_is_frozen_or_stuck_is_down_and_comes_back(
    url: str, namespace: str
) -> None:
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            worker.freeze()
            await until(registry, state("down"))
            worker.thaw()
            await until(registry, state("up"))
            worker.tell("stop")
            await until(registry, state("down"))
            worker.tell("go")
            await until(registry, state("up"))


async def test_a_worker_that_ends_takes_its_rows_along_and_one_that_crashes_leaves_them(
    url: str, namespace: str
) -> None:
    async with reading(url, namespace) as registry:
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            assert worker.end() == (0, "")
            await until(registry, is_gone)
        with OwnWorker(url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace) as worker:
            await until(registry, state("up"))
            code, said = worker.end("crash")
            assert code == 1
            assert said.endswith("LookupError: told to crash\n")
            await until(registry, state("down"))


async def test_two_processes_under_one_name_are_a_conflict_until_one_ends(
    url: str, namespace: str
) -> None:
    arguments: dict[str, Any] = {"timeout_seconds": 5, "namespace": namespace, "instance": "one"}
    async with reading(url, namespace) as registry:
        with OwnWorker(url, **arguments), OwnWorker(url, **arguments) as second:
            report = await until(registry, state("degraded"))
            assert len(report.heartbeats) == 2
            assert second.end() == (0, "")
            await until(registry, state("up"))


async def test_namespaces_see_nothing_of_each_other(url: str, namespace: str) -> None:
    async with reading(url, namespace) as ours, reading(url, f"{namespace}-other") as others:
        with OwnWorker(url, timeout_seconds=5, namespace=namespace):
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
