"""Environments of their own with a wheel in them and what it says that it needs, no more.

Nothing is downloaded: what is needed is copied from where the tests run.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["Environment", "run"]


class Environment:
    """A virtual environment that has no pip, and finds nothing outside of it."""

    def __init__(self, directory: Path) -> None:
        venv.create(directory, symlinks=True)
        self._scripts = directory / "bin"
        (self._packages,) = directory.glob("lib/python*/site-packages")

    @property
    def python(self) -> str:
        return str(self._scripts / "python")

    @property
    def command(self) -> str:
        """The path of `cqrs-health` in it."""
        return str(self._scripts / "cqrs-health")

    @property
    def distributions(self) -> set[str]:
        found = importlib.metadata.distributions(path=[str(self._packages)])
        return {canonicalize_name(distribution.name) for distribution in found}

    def install(self, wheel: Path) -> None:
        """Install a wheel, and copy the distributions that it requires without an extra."""
        self.pip("install", "--no-index", "--no-deps", str(wheel))
        (ours,) = importlib.metadata.distributions(path=[str(self._packages)])
        for name in _closure(ours.requires or ()):
            self._copy(importlib.metadata.distribution(name))

    def pip(self, *arguments: str) -> str:
        """Run pip on it and return what it printed."""
        return run([sys.executable, "-m", "pip", "--python", self.python, *arguments])

    def _copy(self, distribution: importlib.metadata.Distribution) -> None:
        for file in distribution.files or ():
            if ".." not in file.parts:  # what lies outside are scripts
                target = self._packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)


def run(
    command: Sequence[str],
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _closure(requirements: Iterable[str]) -> set[str]:
    """Return all distributions that these need, with what they need in turn."""
    found: set[str] = set()
    left = list(requirements)
    while left:
        requirement = Requirement(left.pop())
        name = canonicalize_name(requirement.name)
        is_wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_wanted and name not in found:
            found.add(name)
            left += importlib.metadata.requires(name) or ()
    return found
