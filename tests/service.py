"""`cqrs-health` as its users run it: a process of its own, and what it answers over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

KEPT = ("COVERAGE", "PYTHON", "VIRTUAL_ENV", "PATH", "LANG")
"""What a service in a test inherits; nothing else of the environment may decide what it does."""


def bare_environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a new user: an empty home, and no setting but those given."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": "", **variables}


TRANSITION = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:,]+ (?:INFO|WARNING) (\w+ '.*' went from .*)\n"
)


class Answer:
    """One answer over HTTP."""

    def __init__(self, response: httpx.Response) -> None:
        self.code = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.body = response.content

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """`cqrs-health serve ...`, or other Python code that prints an address and then serves."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        python: str = sys.executable,
    ) -> None:
        self.process = subprocess.Popen(
            [python, *command],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        address = next((word for word in self.said.split() if word.startswith("http://")), None)
        if address is None:
            self.process.kill()
            raise RuntimeError(f"it did not start: {self.said!r} {self.process.communicate()}")
        self.page = address
        self.root = address.removesuffix("/health/page")
        self.port = int(self.root.rpartition(":")[2])
        self._lines: list[str] = []
        assert self.process.stderr is not None
        threading.Thread(
            target=self._lines.extend, args=(self.process.stderr,), daemon=True
        ).start()

    @classmethod
    def of_cli(cls, *arguments: str, environment: Mapping[str, str], directory: Path) -> Self:
        """`cqrs-health serve` with these arguments, on a free port; ended by a test, it ends."""
        environment = {"CQRS_HEALTH_DRAIN_SECONDS": "0", **environment}
        command = ["-m", "cqrs_ddd_health.cli", "serve", "--port", "0", *arguments]
        return cls(command, environment, directory)

    @property
    def complaints(self) -> str:
        """What it wrote to stderr so far, but for transitions."""
        return "".join(line for line in self._lines if not TRANSITION.fullmatch(line))

    @property
    def transitions(self) -> list[str]:
        """What it wrote to stderr of transitions, without the times."""
        return [found[1] for line in self._lines if (found := TRANSITION.fullmatch(line))]

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask it."""
        with httpx.Client(trust_env=False, timeout=10) as client:
            return Answer(client.request(method, f"{self.root}{path}", headers=headers))

    def terminate(self, timeout_seconds: float = 10.0) -> int:
        """End it as an orchestrator does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def run_cli(
    *arguments: str, environment: Mapping[str, str], directory: Path, prelude: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `cqrs-health` until it ends; `prelude` is Python that runs before it."""
    code = f"import sys; {prelude}; from cqrs_ddd_health.cli import main; sys.exit(main())"
    command = ["-c", code] if prelude else ["-m", "cqrs_ddd_health.cli"]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
