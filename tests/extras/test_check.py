"""`cqrs-health check`: the table, the JSON and the exit code, on pipes and on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cqrs_ddd_health import HealthReport
from tests.processes import wait_until
from tests.service import bare_environment, run_cli

SECRET = "hunter2"
MODULE = f"""
import asyncio, threading
from pathlib import Path
from cqrs_ddd_health import HealthRegistry

def raising():
    raise ConnectionError("nobody at redis://user:{SECRET}@cache:6379/0, not " + "at all " * 20)

async def hanging():
    Path("begun").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def registry_of(**checks):
    registry = HealthRegistry()
    for name, check in checks.items():
        registry.register(name, check, timeout_seconds=0.2)
    return registry

healthy = registry_of(database=lambda: True)
unhealthy = registry_of(database=lambda: True, cache=raising)
degraded = registry_of(database=lambda: True)
degraded.register("search", lambda: False, critical=False)
patient = HealthRegistry()
patient.register("asynchronous", hanging)
patient.register("blocking", threading.Event().wait)
hung = registry_of(asynchronous=hanging, blocking=threading.Event().wait)
wide = registry_of(**{{"datenbänk→": lambda: True}})
empty = HealthRegistry()
flag = registry_of(flag=lambda: not Path("down").exists())
flag.heartbeat("relay")

def counted():
    with open("calls", "a") as calls:
        calls.write("called ")
    return registry_of(same_loop=same_loop)

loops = set()
async def same_loop():
    loops.add(asyncio.get_running_loop())
    return len(loops) == 1

def failing():
    raise LookupError("DATABASE_URL")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "my_health.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def check(
    directory: Path, name: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    done = run_cli(
        "check",
        "--registry",
        f"my_health:{name}",
        *arguments,
        environment=bare_environment(directory, **variables),
        directory=directory,
    )
    assert "Traceback" not in done.stderr
    return done


# --- once


@pytest.mark.parametrize(
    ("name", "code", "up"),
    [("healthy", 0, "1 of 1"), ("degraded", 0, "1 of 2"), ("unhealthy", 1, "1 of 2")],
)
def test_the_code_follows_from_the_status(directory: Path, name: str, code: int, up: str) -> None:
    done = check(directory, name)
    assert (done.returncode, done.stderr) == (code, "")
    header, *_, last = done.stdout.splitlines()
    assert header.split() == ["COMPONENT", "STATE", "LATENCY", "SINCE", "FAILURE", "REASON"]
    assert last == f"{name}: {up} up"


def test_the_operator_sees_the_message_whole_and_no_secret(directory: Path) -> None:
    done = check(directory, "unhealthy")
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("cache")]
    assert row.split()[:2] == ["cache", "down"]
    assert "exception  ConnectionError: nobody at redis://***@cache:6379/0, not at all" in row
    assert row.endswith("at all")
    assert SECRET not in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["healthy", "unhealthy"])
def test_the_json_is_the_report(directory: Path, name: str) -> None:
    done = check(directory, name, "--json")
    assert done.returncode == (name == "unhealthy")
    assert done.stdout.count("\n") == 1
    report = HealthReport.model_validate_json(done.stdout)
    assert report.status == name
    assert [row.name for row in report.components][:1] == ["database"]
    assert (report.components[-1].failure is None) == (name == "healthy")


def test_the_demo_can_be_checked(directory: Path) -> None:
    environment = bare_environment(directory)
    done = run_cli("check", "--demo", environment=environment, directory=directory)
    assert done.returncode == 0
    assert {"database", "disk"} <= {line.split(" ")[0] for line in done.stdout.splitlines()}


def test_the_variable_names_a_registry_too(directory: Path) -> None:
    environment = bare_environment(directory, CQRS_HEALTH_SERVE_REGISTRY="my_health:degraded")
    done = run_cli("check", environment=environment, directory=directory)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "degraded: 1 of 2 up")


def test_checks_that_never_end_do_not_keep_it(directory: Path) -> None:
    began = time.monotonic()
    done = check(directory, "hung")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("timeout") == 2
    assert time.monotonic() - began < 10


def test_who_is_not_back_by_the_deadline_is_pending(directory: Path) -> None:
    done = check(directory, "hung", "--deadline", "0.05")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("pending") == 2


def test_a_name_that_the_terminal_cannot_spell(directory: Path) -> None:
    done = check(directory, "wide", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\ndatenb?nk?  up" in done.stdout
    report = check(directory, "wide", "--json", PYTHONIOENCODING="ascii").stdout
    assert json.loads(report)["components"][0]["name"] == "datenbänk→"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is nothing to check"),
        (["--registry", "my_health:empty"], "cqrs-health check --registry myapp.health:registry"),
        (["--registry", "my_health:failing"], "'my_health:failing': LookupError: DATABASE_URL"),
        (["--registry", "my_health:nobody"], "my_health:nobody"),
        (["--demo", "--registry", "my_health:healthy"], "not allowed with"),
        (["--demo", "--watch", "0"], "--watch: must be a number of seconds above 0"),
        (["--demo", "--deadline", "soon"], "--deadline: must be a number of seconds above 0"),
    ],
)
def test_what_cannot_be_checked(directory: Path, arguments: list[str], reason: str) -> None:
    environment = bare_environment(directory)
    done = run_cli("check", *arguments, environment=environment, directory=directory)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CQRS_HEALTH_CHECKS____URL", "disk:///tmp"),
        (f"CQRS_HEALTH_CHECKS__{'A' * 129}__URL", "disk:///tmp"),
        ("CQRS_HEALTH_CHECKS__A\udcff__URL", "disk:///tmp"),
        ("CQRS_HEALTH_CHECKS", '{"\\u200b": {"url": "disk:///tmp"}}'),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_a_check_without_a_name_is_a_configuration_that_cannot_be_used(
    directory: Path, command: str, variable: str, value: str
) -> None:
    environment = {**bare_environment(directory), variable: value}
    done = run_cli(command, environment=environment, directory=directory)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the name of a check must" in done.stderr
    assert "CQRS_HEALTH_CHECKS__" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("source", ["raise KeyError('DATABASE_URL')", "1 +"])
def test_a_module_that_raises_is_a_configuration(directory: Path, source: str) -> None:
    (directory / "broken.py").write_text(source)
    environment = bare_environment(directory)
    arguments = ["check", "--registry", "broken:registry"]
    done = run_cli(*arguments, environment=environment, directory=directory)
    assert done.returncode == 2
    assert "no registry at 'broken:registry': " in done.stderr
    assert "Traceback" not in done.stderr


# --- again and again


@contextmanager
def running(
    directory: Path, *arguments: str, output: int = subprocess.PIPE, **variables: str
) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cqrs_ddd_health.cli", "check", *arguments],
        cwd=directory,
        env=bare_environment(directory, **variables),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def next_table(process: subprocess.Popen[bytes]) -> list[str]:
    """Return the lines of the next table, up to the overall status."""
    assert process.stdout is not None
    lines: list[str] = []
    while not re.match(r"\w+: \d+ of \d+ up$", lines[-1] if lines else ""):
        line = process.stdout.readline().decode()
        assert line.endswith("\n"), lines
        lines.append(line.rstrip("\n"))
    return [line for line in lines if line]


def ended(process: subprocess.Popen[bytes], sign: signal.Signals) -> tuple[int, bytes]:
    """Send it a signal and return its exit code and what it said to stderr."""
    process.send_signal(sign)
    _, complaints = process.communicate(timeout=20)
    return process.returncode, complaints


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_watches_until_a_signal_ends_it(directory: Path, sign: signal.Signals) -> None:
    arguments = ["--registry", "my_health:flag", "--watch", "0.05"]
    with running(directory, *arguments) as process:
        assert next_table(process)[-1] == "healthy: 2 of 2 up"
        (directory / "down").touch()
        while next_table(process)[-1] != "unhealthy: 1 of 2 up":
            pass
        (directory / "down").unlink()
        while next_table(process)[-1] != "healthy: 2 of 2 up":
            pass
        assert ended(process, sign) == (0, b"")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_checks_hang(directory: Path, sign: signal.Signals) -> None:
    arguments = ["--registry", "my_health:patient", "--watch"]
    with running(directory, *arguments, CQRS_HEALTH_CHECK_TIMEOUT_SECONDS="60") as process:
        assert wait_until((directory / "begun").exists)
        assert ended(process, sign) == (0, b"")


def test_a_watcher_writes_one_document_a_line(directory: Path) -> None:
    arguments = ["--registry", "my_health:flag", "--watch", "0.01", "--json"]
    with running(directory, *arguments) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        reports = [HealthReport.model_validate_json(line) for line in lines]
        assert len({report.service.instance for report in reports}) == 1
        assert len({report.timestamp for report in reports}) == 3
        assert ended(process, signal.SIGTERM) == (0, b"")


def test_a_watcher_has_one_registry_and_one_loop(directory: Path) -> None:
    arguments = ["--registry", "my_health:counted", "--watch", "0.01"]
    with running(directory, *arguments) as process:
        for _ in range(3):
            assert next_table(process)[-1] == "healthy: 1 of 1 up"
        assert ended(process, signal.SIGTERM) == (0, b"")
    assert (directory / "calls").read_text() == "called "


def test_a_reader_that_leaves_ends_it_quietly(directory: Path) -> None:
    with running(directory, "--registry", "my_health:healthy", "--watch", "0.01") as process:
        assert next_table(process)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(20) == 2
        assert process.stderr.read() == b""


def test_an_interrupted_check_says_nothing_of_health(directory: Path) -> None:
    arguments = ["--registry", "my_health:patient"]
    with running(directory, *arguments, CQRS_HEALTH_CHECK_TIMEOUT_SECONDS="60") as process:
        assert wait_until((directory / "begun").exists)
        assert ended(process, signal.SIGINT) == (130, b"")


# --- on a terminal


class Terminal:
    """A terminal that a command writes to, and what it showed so far."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._ours, False)
        self._seen = b""

    def shown(self) -> str:
        try:
            while data := os.read(self._ours, 65_536):
                self._seen += data
        except OSError:  # nothing more for now, or nobody writes any more
            pass
        return self._seen.decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Generator[Terminal]:
    terminal = Terminal(columns=90)
    yield terminal
    terminal.close()


STATES = r"\x1b\[3[123]m\w+ *\x1b\[0m"


def on(terminal: Terminal, directory: Path, *arguments: str, **variables: str) -> str:
    with running(directory, *arguments, output=terminal.theirs, **variables) as process:
        _, complaints = process.communicate(timeout=30)
        assert complaints == b""
    return terminal.shown()


def test_a_terminal_gets_colours_and_lines_that_fit(terminal: Terminal, directory: Path) -> None:
    shown = on(terminal, directory, "--registry", "my_health:unhealthy")
    assert re.findall(STATES, shown) == [
        "\x1b[32mup   \x1b[0m",
        "\x1b[31mdown \x1b[0m",
        "\x1b[31munhealthy\x1b[0m",
    ]
    plain = re.sub(r"\x1b\[\d+m", "", shown)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) == 90
    assert "…\n" in plain


def test_no_color_is_obeyed(terminal: Terminal, directory: Path) -> None:
    shown = on(terminal, directory, "--registry", "my_health:unhealthy", NO_COLOR="1")
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) == 90


def test_json_has_no_colours_on_a_terminal_either(terminal: Terminal, directory: Path) -> None:
    shown = on(terminal, directory, "--registry", "my_health:unhealthy", "--json")
    assert HealthReport.model_validate_json(shown).status == "unhealthy"


def test_a_watcher_repeats_in_its_place(terminal: Terminal, directory: Path) -> None:
    arguments = ["--registry", "my_health:flag", "--watch", "0.05"]
    with running(directory, *arguments, output=terminal.theirs) as process:
        assert wait_until(lambda: terminal.shown().count("of 2 up") >= 3)
        assert ended(process, signal.SIGINT) == (0, b"")
    before, *tables = terminal.shown().split("\x1b[H\x1b[J")
    assert before == ""
    assert len(tables) >= 3
    assert all(each.startswith("COMPONENT") for each in tables)
    assert all(each.endswith(" of 2 up\n") for each in tables[:-1])
