"""An application's async clients, while everything asks for their health from everywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.figures import Record
from tests.faults.test_processes_and_loops import REPOSITORY, not_measured

HOW = {"inside": 60, "around": 15}


@pytest.mark.parametrize("how", HOW)
def test_the_clients_of_an_application_are_used_on_its_loop_alone(how: str, record: Record) -> None:
    """Row 31. From its loop, sync endpoints, 20 threads, `HealthServer` and the metrics server.

    `inside` enters the servers on the application's loop; `around` starts them, and asks, before
    there is a loop. Red when `Slot.loop_bound` is always False.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.application", how, str(HOW[how])],
        env=not_measured(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    # Of what was asked too early the log says once what to do.
    (*early,) = done.stderr.splitlines()
    assert (done.returncode, len(early)) == (0, 0 if how == "inside" else 1), done.stderr
    assert all("is pending" in line for line in early)
    seen = json.loads(done.stdout)
    assert seen["queries"] > 100
    assert seen["reports"] > 100
    failures = sum(seen["wrong"].values())
    record(31, f"clients asked from everywhere, servers {how}: wrong", failures, "answers")
    assert seen["wrong"] == {}
