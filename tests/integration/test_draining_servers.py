"""A server that SIGTERM tells to leave, under clients that never stop asking."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.processes import LOCALHOST, free_port, reachable, wait_until
from tests.service import bare_environment

APP = """
import asyncio, os, signal, time
from contextlib import asynccontextmanager
from pathlib import Path
from cqrs_ddd_health import HealthRegistry, drain_on_sigterm
from cqrs_ddd_health.web.asgi import health_app

here = Path(__file__).parent
delay = float(os.environ["DELAY"])
registry = HealthRegistry()
registry.register("check", lambda: True)
health = health_app(registry)


def note(what):
    with (here / what).open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\\n")


def watch_server():
    '''Note when the server is told to leave: it has a handler by now, here or in its loop.'''
    before = signal.getsignal(signal.SIGTERM)

    def leave(sign, frame):
        note("told")
        before(sign, frame)

    signal.signal(signal.SIGTERM, leave)


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        if scope["path"] == "/slow":
            await asyncio.sleep(0.05)
            scope = {**scope, "path": "/health/live"}
        return await health(scope, receive, send)
    await receive()
    watch_server()
    with WHERE:
        note("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
    note("stopped")
    await send({"type": "lifespan.shutdown.complete"})
"""
IN_LIFESPAN = APP.replace("WHERE", "drain_on_sigterm(registry, delay_seconds=delay)")
BEFORE = (
    APP.replace("with WHERE", "if True")
    + """
if __name__ == "__main__":
    import sys, uvicorn
    drain_on_sigterm(registry, delay_seconds=delay)
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""
)
LONG = 3_600.0


class Outcome(NamedTuple):
    """What became of one request: its code, or 0 for one that was not answered."""

    ended: float
    code: int


class Client(threading.Thread):
    """Asks one path again and again until it is stopped, on new connections or on one."""

    def __init__(self, port: int, path: str, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self.outcomes: list[Outcome] = []
        self._port = port
        self._path = path
        self._keep = keep
        self._stopped = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(LOCALHOST, self._port, timeout=20)
        while not self._stopped.is_set():
            code = 0
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", self._path)
                answer = connection.getresponse()
                answer.read()
                code = answer.status
            self.outcomes.append(Outcome(time.monotonic(), code))
            if not self._keep or not code:
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join(20)

    def codes(self) -> list[int]:
        return [outcome.code for outcome in list(self.outcomes)]


class Served:
    """A server with the application, in processes of its own."""

    def __init__(
        self, directory: Path, app: str, command: Sequence[str], delay: float, processes: int
    ) -> None:
        self.port = free_port()
        self._directory = directory
        (directory / "served.py").write_text(app)
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(word.format(port=self.port) for word in command)],
                cwd=directory,
                env=bare_environment(directory, DELAY=str(delay), PYTHONPATH=str(directory)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: len(self.noted("started")) == processes)
        self.until(lambda: reachable(LOCALHOST, self.port))

    def noted(self, what: str) -> list[float]:
        """When something was noted, in the order of its notes: on the clock of this machine."""
        file = self._directory / what
        lines = file.read_text().splitlines() if file.exists() else []
        return [float(line.split()[1]) for line in lines if len(line.split()) == 2]

    def until(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition), self.log

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def processes(self) -> list[psutil.Process]:
        """The server's own process and all below it."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def end(self) -> None:
        left = self.processes()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        self.process.wait(20)


@contextmanager
def clients_of(served: Served) -> Generator[dict[str, Client]]:
    """Clients that have all been answered before the block begins."""
    asked = [("/health/ready", False), ("/health/live", False), ("/slow", False), ("/slow", True)]
    clients = {
        f"{path} {'kept' if keep else 'new'}": Client(served.port, path, keep=keep)
        for path, keep in (*asked, ("/health/ready", True))
    }
    with ExitStack() as stack:
        for client in clients.values():
            client.start()
            stack.callback(client.stop)
        served.until(lambda: all(len(client.outcomes) > 3 for client in clients.values()))
        yield clients


UVICORN = ("-m", "uvicorn", "served:app", "--port", "{port}", "--log-level", "warning")
GUNICORN = ("-m", "gunicorn", "served:app", "--bind", "127.0.0.1:{port}", "--workers", "2")
HYPERCORN = ("-m", "hypercorn", "served:app", "--bind", "127.0.0.1:{port}", "--workers", "0")
SERVERS = {
    "uvicorn": ((*UVICORN, "--loop", "asyncio", "--http", "h11"), IN_LIFESPAN, 1),
    "uvicorn on uvloop": ((*UVICORN, "--loop", "uvloop", "--http", "httptools"), IN_LIFESPAN, 1),
    "uvicorn, two workers": ((*UVICORN, "--workers", "2"), IN_LIFESPAN, 2),
    "gunicorn, two workers": (
        (*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker"),
        IN_LIFESPAN,
        2,
    ),
    "hypercorn": (HYPERCORN, IN_LIFESPAN, 1),
    "hypercorn on uvloop": ((*HYPERCORN, "--worker-class", "uvloop"), IN_LIFESPAN, 1),
    "uvicorn, held before it": (("served.py", "{port}"), BEFORE, 1),
}


@contextmanager
def serving(directory: Path, name: str, delay: float) -> Generator[Served]:
    command, app, processes = SERVERS[name]
    served = Served(directory, app, command, delay, processes)
    try:
        yield served
    finally:
        served.end()


def missed(clients: dict[str, Client], before: float) -> dict[str, list[Outcome]]:
    """What was not answered before that time, by client."""
    lost = {
        name: [one for one in client.outcomes if one.ended < before and not one.code]
        for name, client in clients.items()
    }
    return {name: outcomes for name, outcomes in lost.items() if outcomes}


@pytest.mark.parametrize("name", SERVERS)
def test_no_request_fails_before_the_server_begins_to_leave(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, name, 1.5) as served, clients_of(served) as clients:
        assert {code for client in clients.values() for code in client.codes()} == {200}
        served.process.send_signal(signal.SIGTERM)
        served.until(lambda: served.process.poll() is not None)
        told = served.noted("told")
        assert len(told) == SERVERS[name][2]
        assert len(served.noted("stopped")) == len(told)
        assert missed(clients, min(told)) == {}
        for kind in ("new", "kept"):
            answered = [one for one in clients[f"/health/ready {kind}"].outcomes if one.code]
            codes = [one.code for one in answered if one.ended < min(told)]
            # Once it is not ready it never is again, for as long as it answers at all.
            assert codes[-1] == 503
            if len(told) == 1:
                assert codes[codes.index(503) :] == [503] * codes.count(503)
        lives = [clients[name] for name in clients if "ready" not in name]
        assert {code for client in lives for code in client.codes()} <= {200, 0}


@pytest.mark.parametrize("name", SERVERS)
def test_a_second_signal_ends_it_at_once(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, name, LONG) as served, clients_of(served) as clients:
        ready = clients["/health/ready new"]
        served.process.send_signal(signal.SIGTERM)
        asked = len(ready.outcomes)
        served.until(lambda: set(ready.codes()[-20:]) == {503} and len(ready.outcomes) > asked + 20)
        assert served.noted("told") == []
        # The supervisor of several workers waits for them and takes no second one: they do.
        supervisor, *workers = served.processes()
        for process in workers or [supervisor]:
            with suppress(psutil.NoSuchProcess):  # the one that watches for what is left behind
                process.send_signal(signal.SIGTERM)
        served.until(lambda: served.process.poll() is not None)
        told = served.noted("told")
        assert len(told) == SERVERS[name][2]
        assert missed(clients, min(told)) == {}


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn on uvloop", "uvicorn, two workers"])
def test_ctrl_c_ends_it_at_once(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, name, LONG) as served:
        for process in served.processes():  # as a terminal sends it, to all of them
            process.send_signal(signal.SIGINT)
        served.until(lambda: served.process.poll() is not None)
        assert len(served.noted("stopped")) == SERVERS[name][2]
        assert "Traceback" not in served.log
