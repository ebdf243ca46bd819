"""What one probe costs: `cqrs-health probe`, against a Python that only imports `http.client`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from .measure import Result, Timer, at_most, compared, taking_turns

__all__ = ["measure"]

SUBJECT = "probe"
PROCESSES_IN_A_TURN = 3

_THEIRS = "import http.client"
_OURS = "import sys; from cqrs_ddd_health.cli import main; sys.exit(main())"  # as it is installed
_TARGET = at_most(1.5)
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"status":"alive"}'


def measure(rounds: int) -> Iterable[Result]:
    """Compare the processor time of whole processes, in user and system mode, start included."""
    with TemporaryDirectory() as bytecode, _serving() as port:
        ours = _processes([_OURS, "probe", f"http://127.0.0.1:{port}/health/live"], bytecode)
        theirs = _processes([_THEIRS], bytecode)
        mine, other = taking_turns(ours, theirs, rounds=rounds, calls=PROCESSES_IN_A_TURN)
    yield compared(SUBJECT, f"cqrs-health probe / {_THEIRS}", mine, other, _TARGET)


@contextmanager
def _serving() -> Generator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):  # it was shut
                while True:
                    with listener.accept()[0] as connection:
                        connection.recv(65_536)
                        connection.sendall(_ANSWER)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _processes(arguments: list[str], bytecode: str) -> Timer:
    return lambda calls: sum(_cpu_seconds(arguments, bytecode) for _ in range(calls))


def _cpu_seconds(arguments: list[str], bytecode: str) -> float:
    """Return the processor time of a new Python; what it imports is compiled into `bytecode`."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments], cwd=Path(__file__).parent.parent, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime
