"""Servers and workers that fork in C, or that run greenlets: what they ask, and who beats there."""

from __future__ import annotations

import asyncio
import http.client
import json
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from cqrs_ddd_health import ComponentStatus
from tests.given import redis_client
from tests.integration.test_example_workers import (
    START_SECONDS,
    TIMEOUT_SECONDS,
    kill,
)
from tests.processes import LOCALHOST, OwnServer
from tests.servers import OwnRedis
from tests.service import bare_environment
from tests.sharing import reading, state, until

APP = """
import asyncio, contextlib, functools, json, os, threading, time
from cqrs_ddd_health import HealthRegistry, HealthServer, HealthSettings

settings = HealthSettings.model_validate(SETTINGS)
registry = HealthRegistry(settings=settings, own_loop=True)
registry.register("sync", lambda: True)


@registry.register("async")
async def check():
    await asyncio.sleep(0)
    return True


registry.heartbeat("main")


@functools.cache  # made after the fork, since only then gevent may have patched it
def one_loop():
    return threading.Lock()  # greenlets share a thread, and can run one loop at a time



def app(environ, start_response):
    began = time.monotonic()
    registry.heartbeat("web")
    report = registry.report_sync(deadline_seconds=10)
    with one_loop(), contextlib.closing(asyncio.new_event_loop()) as loop:
        # asyncio.run would take the signals from uWSGI by which it ends its workers.
        loop.run_until_complete(asyncio.sleep(0))
    while environ["PATH_INFO"] == "/busy" and time.monotonic() < began + 0.05:
        pass
    beats = report.heartbeats
    answer = {
        "pid": os.getpid(),
        "instance": report.service.instance,
        "states": {row.name: row.state for row in report.components},
        "own": [beat.worker for beat in beats if beat.instance == report.service.instance],
    }
    if environ["PATH_INFO"] == "/server":
        with HealthServer(registry, port=0) as server:
            answer["port"] = server.port
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


registry.report_sync()
"""
BINARIES = Path(sysconfig.get_path("scripts"))


class Answer(NamedTuple):
    """What one process of the server said of itself."""

    pid: int
    instance: str
    states: dict[str, str]
    own: list[str]


class Forking(OwnServer):
    """A server of two processes, with the application imported before or after the fork."""

    def __init__(self, command: Sequence[str], url: str, namespace: str) -> None:
        super().__init__()
        said = {"heartbeat_store_url": url, "heartbeat_store_namespace": namespace}
        (self.directory / "served.py").write_text(APP.replace("SETTINGS", repr(said)))
        self._command = command

    def command(self) -> list[str]:
        return [word.format(port=self.port, venv=sys.prefix) for word in self._command]

    def ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return bool(self.ask())
        return False

    def ask(self, path: str = "/") -> Answer:
        """Ask whichever process takes the request."""
        connection = http.client.HTTPConnection(LOCALHOST, self.port, timeout=20)
        try:
            connection.request("GET", path)
            said = json.loads(connection.getresponse().read())
            return Answer(said["pid"], said["instance"], said["states"], said["own"])
        finally:
            connection.close()

    def processes(self) -> dict[int, Answer]:
        """The answers of two processes, by their pids."""
        answers: dict[int, Answer] = {}
        with ThreadPoolExecutor(8) as clients:
            for _ in range(20):  # until the one that is busy has left some to the other
                asked = clients.map(self.ask, ["/busy"] * 8)
                answers |= {answer.pid: answer for answer in asked}
                if len(answers) == 2:
                    return answers
        raise AssertionError(f"one process takes it all: {answers}\n{self.log}")


UWSGI = (
    *(str(BINARIES / "uwsgi"), "--http-socket", "127.0.0.1:{port}", "--wsgi-file", "served.py"),
    *("--callable", "app", "--master", "--processes", "2", "--venv", "{venv}"),
    *("--die-on-term", "--disable-logging"),
)
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "served:app", "--bind", "127.0.0.1:{port}"),
    *("--workers", "2", "--log-level", "warning"),
)
SERVERS = {
    "uwsgi": UWSGI,
    "uwsgi with its fork hooks": (*UWSGI, "--py-call-uwsgi-fork-hooks"),
    "uwsgi with threads": (*UWSGI, "--threads", "4"),
    "uwsgi, apps loaded after the fork": (*UWSGI, "--lazy-apps"),
    "gunicorn": GUNICORN,
    "gunicorn, preloaded": (*GUNICORN, "--preload"),
    "gunicorn on gevent": (*GUNICORN, "--worker-class", "gevent"),
    "gunicorn on gevent, preloaded": (*GUNICORN, "--worker-class", "gevent", "--preload"),
}


@pytest.mark.parametrize("server", SERVERS)
async def test_each_process_answers_for_itself_and_publishes_its_beats(
    server: str, own_redis: OwnRedis
) -> None:
    namespace = secrets.token_hex(8)
    with Forking(SERVERS[server], own_redis.url, namespace) as served:
        answers = served.processes()
        for pid, answer in answers.items():
            assert f":{pid}:" in answer.instance, served.log
            assert {answer.states["sync"], answer.states["async"]} == {"up"}, served.log
            assert "web" in answer.own, served.log
        assert len({answer.instance for answer in answers.values()}) == 2
        instances = {answer.instance for answer in answers.values()}

        def are_seen(row: ComponentStatus | None) -> bool:
            return row is not None and row.details["fresh"] == 2

        async with reading(own_redis.url, namespace) as registry:
            report = await until(registry, are_seen, "web")
        assert {b.instance for b in report.heartbeats if b.worker == "web"} == instances


@pytest.mark.parametrize("server", ["uwsgi", "gunicorn on gevent"])
def test_a_health_server_of_each_process_answers(server: str, own_redis: OwnRedis) -> None:
    with Forking(SERVERS[server], own_redis.url, secrets.token_hex(8)) as served:
        for _ in range(10):
            assert served.ask("/server").states["async"] == "up", served.log


CELERY = """
import asyncio, threading
from celery import Celery
from celery.signals import heartbeat_sent
from redis import Redis
from cqrs_ddd_health import HealthRegistry, HealthSettings

URL = BROKER
app = Celery("worker", broker=URL)
health = HealthRegistry(settings=HealthSettings.model_validate(SETTINGS))
client = Redis.from_url(URL)
health.register("redis", client.ping)
one_loop = threading.Lock()


@heartbeat_sent.connect
def beat(**_):
    health.heartbeat("worker")


@app.task
def greet(number):
    with one_loop:
        asyncio.run(asyncio.sleep(0))
    client.set(f"greeted:{number}", health.report_sync(deadline_seconds=10).status)
"""


async def test_celery_on_gevent_beats_and_keeps_the_loops_of_its_tasks(
    own_redis: OwnRedis, tmp_path: Path
) -> None:
    namespace = secrets.token_hex(8)
    said = {
        "heartbeat_store_url": own_redis.url,
        "heartbeat_store_namespace": namespace,
        "heartbeat_timeout_seconds": TIMEOUT_SECONDS,
    }
    code = CELERY.replace("SETTINGS", repr(said)).replace("BROKER", repr(own_redis.url))
    (tmp_path / "worker.py").write_text(code)
    environment = bare_environment(tmp_path)
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "gevent", "-c", "8"],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        async with (
            reading(own_redis.url, namespace) as registry,
            redis_client(own_redis.port) as redis,
        ):
            await until(registry, state("up"), "worker", seconds=START_SECONDS)
            order = "import worker; [worker.greet.delay(number) for number in range(20)]"
            subprocess.run([sys.executable, "-c", order], env=environment, cwd=tmp_path, check=True)
            keys = [f"greeted:{number}" for number in range(20)]
            async with asyncio.timeout(20):
                while (greeted := await redis.mget(keys)) != [b"healthy"] * 20:
                    assert set(greeted) <= {None, b"healthy"}
                    await asyncio.sleep(0.05)
            await until(registry, state("up"), "worker", seconds=0.1)
    except BaseException as error:
        error.add_note((tmp_path / "output").read_text(errors="replace")[-4_000:])
        raise
    finally:
        kill(process)
