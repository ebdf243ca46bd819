"""What it costs to import the package, and to have a first registry, in a new process each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from .measure import Result, Timer, at_most, compared, taking_turns

__all__ = ["measure"]

SUBJECT = "start"
PROCESSES_IN_A_TURN = 1

_PACKAGE = "import cqrs_ddd_health"
_REGISTRY = "from cqrs_ddd_health import HealthRegistry; HealthRegistry()"
_PYDANTIC = "import pydantic, pydantic_settings"

# "Next to nothing": of what the libraries cost that it is built on.
_PACKAGE_TARGET = at_most(0.05)
_REGISTRY_TARGET = at_most(1.3)


def measure(rounds: int) -> Iterable[Result]:
    """Compare both with importing what the package is built on."""
    with TemporaryDirectory() as bytecode:
        theirs = _processes(_PYDANTIC, bytecode)
        for what, code, target in (
            ("import cqrs_ddd_health", _PACKAGE, _PACKAGE_TARGET),
            ("a first HealthRegistry()", _REGISTRY, _REGISTRY_TARGET),
        ):
            ours = _processes(code, bytecode)
            mine, other = taking_turns(ours, theirs, rounds=rounds, calls=PROCESSES_IN_A_TURN)
            yield compared(SUBJECT, f"{what} / {_PYDANTIC}", mine, other, target)


def _processes(code: str, bytecode: str) -> Timer:
    return lambda calls: sum(_cpu_seconds(code, bytecode) for _ in range(calls))


def _cpu_seconds(code: str, bytecode: str) -> float:
    """Return the processor time of `code` in a new process, without the interpreter's own start.

    An installed package is compiled once; so is everything here, into the directory `bytecode`,
    by the round that warms up.
    """
    timed = f"import time; began = time.process_time(); {code}; print(time.process_time() - began)"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    run = subprocess.run(
        [sys.executable, "-c", timed],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env=environment,
        text=True,
        timeout=60,
    )
    return float(run.stdout)
