"""A heartbeat in a file, for processes that are probed by a command: `cqrs-health probe --file`.

The file holds when the process last beat on the machine's monotonic clock, and the boot that this
clock began with. Its own times are not looked at: a wall clock may jump, and a copy is new.

Imports the standard library only, and little of that: a probe is a new process every few seconds.
"""

from __future__ import annotations

import math
import os
import stat
import time
from errno import ELOOP, EMLINK

__all__ = ["HeartbeatFile", "staleness"]

MAX_BYTES = 256
_VERSION = "cqrs-health-1"
_NO_BOOT = "-"  # where no system says which boot it is: a beat of another one has another age
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class HeartbeatFile:
    """Where a process says that it goes on: call `beat()` in the loop that does its work.

    Any process and thread may beat into the same file; the last one counts.

    Args:
        path: the file. It belongs in a directory that only this user may write to. What is there
            under that name is replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._boot = _boot()

    def beat(self) -> None:
        """Write the file anew, with mode 0600. Who reads it meanwhile sees this beat or the last.

        It takes as long as its file system does, which a network's may take for ever.

        Raises:
            OSError: if the directory is not there or cannot be written to.
        """
        from pathlib import Path  # not above: a probe has no need of it

        beat = f"{_VERSION} {self._boot} {time.monotonic()!r}\n".encode()
        # Beside it: a rename is one step only on one and the same disk.
        temporary = Path(f"{self._path}.{os.urandom(8).hex()}")
        descriptor = os.open(temporary, _CREATE, 0o600)
        try:
            try:
                os.write(descriptor, beat)
            finally:
                os.close(descriptor)
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def staleness(path: str, max_age_seconds: float) -> str | None:
    """Return `None` if the beat in that file is at most so old, or else in a few words why not.

    A file that is a link, no regular file, or that another user but root may write is no beat.
    """
    try:
        descriptor = os.open(path, _READ)
    except (OSError, ValueError) as error:
        return _why(error)
    try:
        untrusted = _distrust(os.fstat(descriptor))
        content = b"" if untrusted else os.read(descriptor, MAX_BYTES)
    except OSError as error:
        return _why(error)
    finally:
        os.close(descriptor)
    return untrusted or _verdict(content, max_age_seconds)


def _distrust(status: os.stat_result) -> str | None:
    """Return why a file with that status is none of ours, if so."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_uid not in {os.geteuid(), 0}:
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users may write to it"
    return None


def _verdict(content: bytes, max_age_seconds: float) -> str | None:
    version, boot, seconds = [*content.decode("ascii", "replace").split(), "", "", ""][:3]
    try:
        age = time.monotonic() - float(seconds)
    except ValueError:
        age = math.nan
    if version != _VERSION or math.isnan(age):
        return "there is no heartbeat in it"
    if boot != _boot() or age < 0:
        return "its heartbeat is from before the machine was started"
    return None if age <= max_age_seconds else f"no heartbeat for {age:.0f} s"


def _boot() -> str:
    """Return what tells this boot of the machine from any other."""
    try:
        descriptor = os.open(_BOOT_ID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # only Linux has it
        return _NO_BOOT
    try:
        return os.read(descriptor, MAX_BYTES).decode("ascii").strip()
    finally:
        os.close(descriptor)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno in {ELOOP, EMLINK}:  # the latter is FreeBSD's
        return "it is a symbolic link"
    words = (error.strerror if isinstance(error, OSError) else None) or "there is no such file"
    return words[:1].lower() + words[1:]
