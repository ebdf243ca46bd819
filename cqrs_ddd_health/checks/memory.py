"""Is there memory left: of the machine, and of what the container may have of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_positive
from cqrs_ddd_health.runtime.threads import run_blocking

__all__ = ["MemoryHealthCheck"]


class MemoryHealthCheck:
    """Is down when less than `min_available_bytes` of memory can be had (200 MB by default).

    That is what the machine can give without swapping or, if that is less, what the limits of the
    control groups (v1 or v2) around this process still allow. Page cache that the kernel would
    drop first counts as available in both. The files are read on a daemon thread.

    Register it with `critical=False` to have it only degrade the report.

    Raises:
        InvalidOptionError: if `min_available_bytes` is not a positive, finite number.
        ImportError: if psutil is not installed.
    """

    loop_bound = False  # it holds nothing that belongs to a loop

    def __init__(self, *, min_available_bytes: float = 200e6) -> None:
        self._min_available_bytes = require_positive("min_available_bytes", min_available_bytes)
        self._root = Path("/")
        try:
            import psutil
        except ImportError as error:
            raise ImportError(
                "MemoryHealthCheck needs psutil: pip install 'cqrs-ddd-health[psutil]'"
            ) from error
        self._of_machine = psutil.virtual_memory

    async def __call__(self) -> bool:
        """Return whether there is memory; whatever the system raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return how many bytes can be had, and whether machine or control group bounds them."""
        of_machine, of_groups = await run_blocking(self._measured)
        available = min([of_machine, *of_groups])
        bound_by = "machine" if available == of_machine else "control group"
        details = {"available_bytes": available, "bound_by": bound_by}
        if available >= self._min_available_bytes:
            return CheckResult(details=details)
        message = f"less than {self._min_available_bytes:.0f} bytes of memory are available"
        return CheckResult(state="down", details=details, message=message)

    def _measured(self) -> tuple[int, list[int]]:
        return self._of_machine().available, list(_allowances(self._root))


class _Files(NamedTuple):
    """Where one version of control groups keeps its numbers."""

    mount: str
    limit: str
    usage: str
    cache: str
    """The key in memory.stat of the page cache that is dropped first, children included."""


_V1 = _Files(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_V2 = _Files("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def _allowances(root: Path) -> Iterator[int]:
    """Return how much each limited group around this process still allows, none elsewhere."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield from _allowances_on(path, _V2, root)
        elif "memory" in controllers.split(","):
            yield from _allowances_on(path, _V1, root)


def _allowances_on(path: str, files: _Files, root: Path) -> Iterator[int]:
    """Every group on the way up has its say; some are only seen from outside of a container."""
    group = root / files.mount
    for name in path.split("/"):  # the first one is empty: that is the mount itself
        group /= name
        allowance = _allowance(group, files)
        if allowance is not None:
            yield allowance


def _allowance(group: Path, files: _Files) -> int | None:
    try:
        stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
        limit = int(_text(group / files.limit))
        usage = int(_text(group / files.usage)) - int(stat.get(files.cache, "0"))
    except ValueError:  # "max", or there is no such file
        return None
    return max(0, limit - usage)


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except OSError:
        return ""
