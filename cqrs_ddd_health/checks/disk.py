"""Is there room on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_positive
from cqrs_ddd_health.runtime.threads import run_blocking

__all__ = ["DiskSpaceHealthCheck"]


class DiskSpaceHealthCheck:
    """Is down when the file system of `path` has less than `min_free_bytes` to give.

    Counts what is available to this process, not the blocks kept for root. A path that is not
    there raises, and is down. On a daemon thread: a network file system may hang.

    Raises:
        InvalidOptionError: if `min_free_bytes` is not a positive, finite number.
    """

    loop_bound = False  # it holds nothing that belongs to a loop

    def __init__(self, path: str | os.PathLike[str], *, min_free_bytes: float = 1e9) -> None:
        self._path = Path(path)
        self._min_free_bytes = require_positive("min_free_bytes", min_free_bytes)

    async def __call__(self) -> bool:
        """Return whether there is room; whatever the file system raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return how many bytes there are in all and how many are free."""
        usage = await run_blocking(lambda: shutil.disk_usage(self._path))
        details = {"free_bytes": usage.free, "total_bytes": usage.total}
        if usage.free >= self._min_free_bytes:
            return CheckResult(details=details)
        message = f"less than {self._min_free_bytes:.0f} bytes are free"
        return CheckResult(state="down", details=details, message=message)
