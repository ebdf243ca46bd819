"""What `cqrs-health serve --demo` shows: a SQLite database, the disk, and a worker that beats."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from urllib.parse import quote

from cqrs_ddd_health.checks import DiskSpaceHealthCheck
from cqrs_ddd_health.checks.from_url import check_from_url
from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["demo_database", "demo_registry"]

BEAT_SECONDS = 5.0


def demo_registry(settings: HealthSettings) -> HealthRegistry:
    """Return a registry of things that are really there: take the file away and it goes down."""
    file = demo_database()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()  # nothing is an empty database
    registry = HealthRegistry(settings=settings)
    quick = CheckOptions(interval_seconds=1, down_interval_seconds=1)  # somebody is watching
    database = check_from_url(f"sqlite:///{quote(str(file))}")
    registry.register("database", database, timeout_seconds=2, options=quick)
    disk = DiskSpaceHealthCheck(file.parent, min_free_bytes=100e6)
    registry.register("disk", disk, options=quick)
    threading.Thread(target=_beat, args=(registry,), name="demo-worker", daemon=True).start()
    return registry


def demo_database() -> Path:
    """Return its file in the user's directory for state (XDG Base Directory Specification)."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "cqrs-health" / "demo.sqlite3"


def _beat(registry: HealthRegistry) -> None:
    while True:
        registry.heartbeat("demo_worker")
        time.sleep(BEAT_SECONDS)
