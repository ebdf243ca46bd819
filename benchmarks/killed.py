"""How soon it is seen that workers were killed: the age of their beats in the first down report."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterable
from statistics import median

from cqrs_ddd_health import HealthRegistry, HealthSettings
from tests.workers import OwnWorker

from .measure import Result, at_most, judged

__all__ = ["measure"]

SUBJECT = "killed"
WORKERS = 50
TIMEOUT_SECONDS = 2.0
PERIOD_SECONDS = 0.1

# The reader's period; what it takes to look is measured and taken off.
_TARGET = at_most(PERIOD_SECONDS)


def measure(rounds: int) -> Iterable[Result]:  # noqa: ARG001 - each takes seconds
    """Kill a process of fifty workers on each store of this machine."""
    with tempfile.TemporaryDirectory() as directory:
        for name, url in (
            ("SQLite", f"sqlite+aiosqlite:///{directory}/beats.sqlite3"),
            ("PostgreSQL", "postgresql+asyncpg://root@127.0.0.1:5432/test"),
            ("MariaDB", "mysql+aiomysql://root@127.0.0.1:3306/test"),
            ("Redis", "redis://127.0.0.1:6379/0"),
        ):
            late, looking = asyncio.run(_kill(url))
            what = f"{name}: {WORKERS} killed, seen later than timeout, interval and round trip"
            note = f"the slowest of all; a look took {looking * 1e3:.1f} ms"
            yield judged(SUBJECT, what, [late], "s", _TARGET, note=note)


async def _kill(url: str) -> tuple[float, float]:
    """Return by how much the last was seen late, and how long a look took."""
    namespace = secrets.token_hex(8)
    registry = HealthRegistry(
        settings=HealthSettings.model_validate(
            {"heartbeat_store_url": url, "heartbeat_store_namespace": namespace}
        )
    )
    late: dict[str, float] = {}
    looks: list[float] = []
    many = {"WORKERS": str(WORKERS)}
    with OwnWorker(
        url, timeout_seconds=TIMEOUT_SECONDS, namespace=namespace, environment=many
    ) as process:
        while sum(beat.state == "up" for beat in (await registry.report()).heartbeats) < WORKERS:
            await asyncio.sleep(PERIOD_SECONDS)
        process.kill()
        while len(late) < WORKERS:
            began = time.perf_counter()
            beats = (await registry.report()).heartbeats
            looks.append(time.perf_counter() - began)
            for beat in beats:
                if beat.state == "down" and beat.age_seconds is not None:
                    limit = beat.timeout_seconds + beat.publish_interval_seconds
                    late.setdefault(beat.worker, beat.age_seconds - limit)
            await asyncio.sleep(max(PERIOD_SECONDS - looks[-1], 0.0))
    await registry.aclose()
    looking = max(looks)
    return max(late.values()) - looking, median(looks)
