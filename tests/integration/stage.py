"""A service whose checks do as files say: `python -m tests.integration.stage DIRECTORY PORT`.

Each file there has the name of what it is about, and one word: `up`, `degraded`, `down`, `raises`
or `hangs`. What has no file is up. `beats` is about the workers: they beat while it says `up`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthServer

__all__ = ["BEAT_TIMEOUT_SECONDS", "CHECKS", "EVIL", "main"]

EVIL = "<b onclick='x()'>\"&amp;</b> ${title} %3C שלום"
LONG = "-".join(["a name as long as a name may be", "w" * 96])
CHECKS = ("database", "redis", "search", EVIL, LONG)
BEAT_TIMEOUT_SECONDS = 3.0
PACE = CheckOptions(interval_seconds=0.2, down_interval_seconds=0.2, initial_delay_seconds=0.0)


def main() -> None:
    """Serve until SIGTERM."""
    directory = Path(sys.argv[1])
    registry = HealthRegistry(BEAT_TIMEOUT_SECONDS, own_loop=True)
    for name in CHECKS:
        check = _check(directory / _file_of(name))
        registry.register(name, check, critical=name != "search", timeout_seconds=1, options=PACE)
    threading.Thread(target=_beat, args=(registry, directory / "beats"), daemon=True).start()
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: end.set())
    with HealthServer(registry, port=int(sys.argv[2])) as server:
        sys.stdout.write(f"{server.url}/health/page\n")
        sys.stdout.flush()
        end.wait()


def _file_of(name: str) -> str:
    return name if name.isalpha() else f"check-{CHECKS.index(name)}"


def _said(file: Path) -> str:
    return file.read_text().strip() if file.exists() else "up"


def _check(file: Path) -> Callable[[], Awaitable[CheckResult]]:
    async def check() -> CheckResult:
        said = _said(file)
        if said == "hangs":
            await asyncio.Event().wait()
        if said == "raises":
            raise ConnectionRefusedError("connect to postgresql://app:secret@db:5432/ failed")
        if said == "down":
            return CheckResult(state="down", message="said so")
        return CheckResult(state="degraded" if said == "degraded" else "up")

    return check


def _beat(registry: HealthRegistry, file: Path) -> None:
    registry.expect("projections", min_instances=2)
    while True:
        if _said(file) == "up":
            registry.heartbeat("outbox", phase="busy", progress=7)
            registry.heartbeat("projections", instance="pod-1", timeout_seconds=600)
            registry.heartbeat("projections", instance="pod-2", timeout_seconds=600)
        threading.Event().wait(0.2)


if __name__ == "__main__":
    main()
