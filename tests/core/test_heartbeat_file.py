"""The heartbeat in a file: who may have written it, when, and what a probe says of it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cqrs_ddd_health import HeartbeatFile
from cqrs_ddd_health.heartbeats import file as heartbeat_file
from cqrs_ddd_health.heartbeats.file import staleness

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "worker.beat"


def probe(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "cqrs_ddd_health.cli", "probe", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def aged(file: Path, seconds: float) -> None:
    """Have the beat in that file be older, or younger."""
    version, boot, then = file.read_text().split()
    file.write_text(f"{version} {boot} {float(then) - seconds}\n")


def test_a_beat_is_fresh_and_the_file_is_for_its_user_alone(file: Path) -> None:
    HeartbeatFile(file).beat()
    assert staleness(str(file), 60) is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_the_age_is_that_of_the_beat_whatever_the_file_says_of_itself(file: Path) -> None:
    HeartbeatFile(str(file)).beat()
    os.utime(file, (0, 0))
    assert staleness(str(file), 60) is None
    aged(file, 61)
    os.utime(file)
    assert staleness(str(file), 60) == "no heartbeat for 61 s"
    assert staleness(str(file), 70) is None
    HeartbeatFile(file).beat()
    assert staleness(str(file), 60) is None


def test_a_beat_of_another_boot_is_too_old(file: Path) -> None:
    before = "its heartbeat is from before the machine was started"
    HeartbeatFile(file).beat()
    version, _, then = file.read_text().split()
    file.write_text(f"{version} another-boot {then}\n")
    assert staleness(str(file), 60) == before
    HeartbeatFile(file).beat()
    aged(file, -1_000)
    assert staleness(str(file), 60) == before


def test_without_boots_the_age_alone_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_file, "_BOOT_ID_FILE", str(file.with_name("nothing")))
    HeartbeatFile(file).beat()
    assert staleness(str(file), 60) is None
    assert " - " in file.read_text()


@pytest.mark.parametrize(
    "content",
    [b"", b"1", b"cqrs-health-1 boot", b"cqrs-health-1 boot nan", b"other boot 1", b"\xff" * 999],
)
def test_what_is_no_beat(file: Path, content: bytes) -> None:
    file.touch(0o600)
    file.write_bytes(content)
    assert staleness(str(file), 60) == "there is no heartbeat in it"


def test_what_is_no_file_of_ours(file: Path) -> None:
    other = file.with_name("other")
    HeartbeatFile(other).beat()
    assert staleness(str(file), 60) == "no such file or directory"
    assert staleness("nul\0", 60) == "there is no such file"
    file.symlink_to(other)
    assert staleness(str(file), 60) == "it is a symbolic link"
    assert staleness(str(file.parent), 60) == "it is no regular file"
    file.unlink()
    os.mkfifo(file)
    assert staleness(str(file), 60) == "it is no regular file"  # and did not wait for a writer
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))
        assert staleness(str(file), 60) == "no such device or address"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_none(file: Path, mode: int) -> None:
    HeartbeatFile(file).beat()
    file.chmod(mode)
    assert staleness(str(file), 60) == "other users may write to it"


def test_the_owner_must_be_the_reader_or_root(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HeartbeatFile(file).beat()
    owner = file.stat().st_uid
    if owner == 0:  # root may give it away, anybody else can only pretend to be another
        os.chown(file, NOBODY, -1)
        owner = NOBODY
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert staleness(str(file), 60) == "it belongs to another user"
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert staleness(str(file), 60) is None


def test_a_file_that_cannot_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    HeartbeatFile(file).beat()
    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(OSError, match="Input/output"):
        HeartbeatFile(file)
    assert staleness(str(file), 60) == "input/output error"


def test_a_link_in_its_place_is_replaced_and_not_followed(file: Path) -> None:
    victim = file.with_name("victim")
    victim.write_text("precious")
    file.symlink_to(victim)
    HeartbeatFile(file).beat()
    assert victim.read_text() == "precious"
    assert not file.is_symlink()
    assert staleness(str(file), 60) is None


def test_where_nothing_can_be_written(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HeartbeatFile(file.with_name("missing") / "beat").beat()
    with pytest.raises(NotADirectoryError):
        HeartbeatFile("/dev/null/beat").beat()
    file.mkdir()
    with pytest.raises(IsADirectoryError):
        HeartbeatFile(file).beat()
    assert list(file.parent.iterdir()) == [file]  # and nothing is left of the attempt


def test_a_reader_beside_many_writers_always_sees_a_whole_beat(file: Path) -> None:
    HeartbeatFile(file).beat()
    stop = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        beats = HeartbeatFile(file)
        try:
            while not stop.is_set():
                beats.beat()
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    verdicts = {staleness(str(file), 60) for _ in range(2_000)}
    stop.set()
    for writer in writers:
        writer.join(20)
    assert failed == []
    assert verdicts == {None}
    assert list(file.parent.iterdir()) == [file]


# --- as a command


def test_the_command_says_whether_it_is_fresh(file: Path) -> None:
    assert probe("--file", str(file)) == (1, "no such file or directory")
    HeartbeatFile(file).beat()
    assert probe("--file", str(file)) == (0, "")
    aged(file, 50)
    assert probe("--file", str(file)) == (0, "")
    code, said = probe("--file", str(file), "--max-age", "10")
    assert code == 1
    assert said.startswith("no heartbeat for 5")
    aged(file, 50)
    assert probe("--file", str(file))[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["http://127.0.0.1:1/", "--file", "beat"],
        ["http://127.0.0.1:1/", "--max-age", "1"],
        ["--file", "beat", "--max-age", "0"],
        ["--file", "beat", "--max-age", "soon"],
    ],
)
def test_what_makes_no_sense_is_usage(arguments: list[str]) -> None:
    code, said = probe(*arguments)
    assert code == 2
    assert "--" in said


MODULES = """
import sys
before = set(sys.modules)
from cqrs_ddd_health.cli import main
code = main()
print(*sorted(set(sys.modules) - before))
sys.exit(code)
"""


def test_a_probe_of_a_file_imports_less_than_one_of_a_url(file: Path) -> None:
    HeartbeatFile(file).beat()
    unmeasured = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [sys.executable, "-c", MODULES, "probe", "--file", str(file)],
        check=True,
        capture_output=True,
        env=unmeasured,
        text=True,
        timeout=60,
    )
    modules = set(done.stdout.split())
    ours = {name for name in modules if name.startswith("cqrs_ddd_health")}
    own = (
        "cli",
        "cli.output",
        "cli.parser",
        "heartbeats",
        "heartbeats.file",
        "runtime",
        "runtime.lazy",
    )
    assert ours == {"cqrs_ddd_health", *(f"cqrs_ddd_health.{name}" for name in own)}
    assert {name.partition(".")[0] for name in modules - ours} <= sys.stdlib_module_names
    assert modules.isdisjoint({"asyncio", "http.client", "ssl", "threading", "typing"})


def test_the_clock_is_the_one_of_the_machine(file: Path) -> None:
    began = time.monotonic()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from cqrs_ddd_health import HeartbeatFile as F;F(sys.argv[1]).beat()",
            str(file),
        ],
        check=True,
        timeout=60,
    )
    assert began - 0.001 <= float(file.read_text().split()[2]) <= time.monotonic()
