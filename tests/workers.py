"""Workers in processes of their own, started, frozen and killed by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

__all__ = ["OwnWorker"]

REPOSITORY = Path(__file__).parents[1]


class OwnWorker:
    """`tests.beating_worker` in a process; it is gone when the block is left.

    With `child`, a start method of multiprocessing, it is `tests.child_worker`, and only the URL,
    the namespace and the environment count.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        namespace: str = "default",
        name: str = "outbox",
        instance: str | None = None,
        environment: Mapping[str, str] | None = None,
        child: str | None = None,
    ) -> None:
        arguments = [str(timeout_seconds), name, *([] if instance is None else [instance])]
        command = ["tests.beating_worker", *arguments]
        if child is not None:
            command = ["tests.child_worker", child]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={
                **os.environ,
                "CQRS_HEALTH_HEARTBEAT_STORE_URL": url,
                "CQRS_HEALTH_HEARTBEAT_STORE_NAMESPACE": namespace,
                **(environment or {}),
            },
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tell(self, what: str) -> None:
        """Have it `stop` beating or `go` on with it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as the kernel does."""
        self._process.kill()
        self._process.wait(20)

    def end(self, how: str = "exit") -> tuple[int, str]:
        """Have it `exit` or `crash`; return its exit code and what it said on stderr."""
        _, said = self._process.communicate(f"{how}\n", timeout=20)
        return self._process.returncode, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
