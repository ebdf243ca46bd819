"""Every example of a worker, run as its docstring says, over a real Redis."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from cqrs_ddd_health import HealthRegistry
from tests.given import redis_client
from tests.servers import OwnRedis
from tests.service import bare_environment
from tests.sharing import is_gone, reading, state, until

WORKERS = Path(__file__).parents[2] / "examples" / "workers"
TIMEOUT_SECONDS = 3
START_SECONDS = 60.0


class Example(NamedTuple):
    """How an example is started, and how it is given something to do."""

    command: tuple[str, ...]
    order: str


EXAMPLES = {
    "celery_worker": Example(
        ("celery", "-A", "celery_worker", "worker", "--concurrency", "1"),
        "from celery_worker import greet; greet.delay('you')",
    ),
    "saq_worker": Example(
        ("saq", "saq_worker.settings"),
        "import asyncio, saq_worker as w; asyncio.run(w.queue.enqueue('greet', name='you'))",
    ),
    "dramatiq_worker": Example(
        ("dramatiq", "dramatiq_worker:broker", "--processes", "1", "--threads", "2"),
        "from dramatiq_worker import greet; greet.send('you')",
    ),
    "apscheduler_worker": Example(("apscheduler_worker",), ""),
    "rq_worker": Example(
        (
            *("rq.cli", "worker", "--worker-class", "rq_worker.BeatingWorker"),
            *("--worker-ttl", "16", "--job-monitoring-interval", "1"),
        ),
        "import rq_worker; rq_worker.queue.enqueue('rq_worker.greet', 'you')",
    ),
}


@pytest.fixture(params=EXAMPLES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of an example, of its worker and of its file."""
    return str(request.param)


@pytest.fixture
def broker() -> Iterator[OwnRedis]:
    """A Redis for jobs only, so that beats have one that goes on while this is frozen."""
    with OwnRedis() as server:
        yield server


@pytest.fixture
def environment(own_redis: OwnRedis, broker: OwnRedis, tmp_path: Path) -> dict[str, str]:
    """What an example goes by, and nothing else."""
    return bare_environment(
        tmp_path,
        REDIS_URL=broker.url,
        RQ_REDIS_URL=broker.url,
        CQRS_HEALTH_HEARTBEAT_STORE_URL=own_redis.url,
        CQRS_HEALTH_HEARTBEAT_STORE_NAMESPACE=secrets.token_hex(8),
        CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
    )


def beats_of(environment: dict[str, str]) -> AbstractAsyncContextManager[HealthRegistry]:
    """A registry that reads where the example beats."""
    prefix = "CQRS_HEALTH_HEARTBEAT_STORE_"
    return reading(environment[f"{prefix}URL"], environment[f"{prefix}NAMESPACE"])


@contextmanager
def started(
    name: str, environment: dict[str, str], directory: Path
) -> Generator[subprocess.Popen[bytes]]:
    """The example in a process group of its own, of which nothing is left behind."""
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *EXAMPLES[name].command],
            env=environment,
            cwd=WORKERS,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    except TimeoutError as error:
        error.add_note((directory / "output").read_text(errors="replace"))
        raise
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End all of it at once; nothing happens if it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


async def test_it_works_and_is_seen_and_killed_it_is_down(
    name: str, environment: dict[str, str], broker: OwnRedis, tmp_path: Path
) -> None:
    async with beats_of(environment) as registry, redis_client(broker.port) as redis:
        with started(name, environment, tmp_path) as process:
            await until(registry, state("up"), name, seconds=START_SECONDS)
            code = EXAMPLES[name].order
            subprocess.run([sys.executable, "-c", code], env=environment, cwd=WORKERS, check=True)
            async with asyncio.timeout(20):
                while await redis.get("greeted:you") is None:
                    await asyncio.sleep(0.05)
            kill(process)
            report = await until(registry, state("down"), name)
            assert [record.worker for record in report.heartbeats] == [name]


async def test_told_to_stop_it_leaves_the_report(
    name: str, environment: dict[str, str], tmp_path: Path
) -> None:
    async with beats_of(environment) as registry:
        with started(name, environment, tmp_path) as process:
            await until(registry, state("up"), name, seconds=START_SECONDS)
            process.send_signal(signal.SIGTERM)
            await until(registry, is_gone, name)
            assert process.wait(20) == 0


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"apscheduler_worker"}), indirect=True)
async def test_it_does_not_beat_while_its_loop_waits_in_vain(
    name: str, environment: dict[str, str], broker: OwnRedis, tmp_path: Path
) -> None:
    async with beats_of(environment) as registry:
        with started(name, environment, tmp_path):
            await until(registry, state("up"), name, seconds=START_SECONDS)
            broker.freeze()
            await until(registry, state("down"), name)
            broker.thaw()
            await until(registry, state("up"), name)


def test_there_is_a_test_of_every_example_and_all_are_short() -> None:
    files = sorted(WORKERS.glob("*.py"))
    assert [file.stem for file in files] == sorted(EXAMPLES)
    for file in files:
        assert len(file.read_text().splitlines()) < 30, file.name
