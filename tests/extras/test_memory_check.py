"""The check of memory: what the machine has, and what control groups leave of it."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from cqrs_ddd_health import CheckResult, InvalidOptionError, MemoryHealthCheck

MB = 1_000_000
V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a file system in which this process is in no control group."""
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def belong(root: Path, *lines: str) -> None:
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))


def limit_v2(group: Path, limit: object, usage: int, stat: str = "") -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{usage}\n")
    (group / "memory.stat").write_text(stat)


def limit_v1(group: Path, limit: int, usage: int, stat: str = "") -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (group / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (group / "memory.stat").write_text(stat)


async def asked(root: Path, min_available_bytes: float = 1) -> CheckResult:
    check = MemoryHealthCheck(min_available_bytes=min_available_bytes)
    check._root = root
    return await check.check()


def bound(available: int) -> dict[str, object]:
    return {"available_bytes": available, "bound_by": "control group"}


async def test_a_machine_with_memory_is_up_and_says_how_much() -> None:
    check = MemoryHealthCheck(min_available_bytes=1)
    result = await check.check()
    available = result.details["available_bytes"]
    assert result.state == "up"
    assert isinstance(available, int)
    assert 0 < available <= psutil.virtual_memory().total
    assert await check()


async def test_a_machine_without_memory_is_down() -> None:
    check = MemoryHealthCheck(min_available_bytes=1e30)
    result = await check.check()
    assert (result.state, await check()) == ("down", False)
    assert "bytes of memory are available" in (result.message or "")


async def test_where_no_group_limits_it_the_machine_does(root: Path) -> None:
    assert (await asked(root)).details["bound_by"] == "machine"
    belong(root, "0::/app.slice", "broken")
    assert (await asked(root)).details["bound_by"] == "machine"
    limit_v2(root / V2 / "app.slice", "max", 5 * MB)
    assert (await asked(root)).details["bound_by"] == "machine"


async def test_a_group_of_version_2_limits_it(root: Path) -> None:
    belong(root, "0::/app.slice")
    stat = "anon 1\ninactive_file 2000000\nactive_file 7\n"
    limit_v2(root / V2 / "app.slice", 100 * MB, 95 * MB, stat)
    result = await asked(root, 7 * MB)
    assert (result.state, result.details) == ("up", bound(7 * MB))
    result = await asked(root, 7 * MB + 1)
    assert (result.state, result.details) == ("down", bound(7 * MB))


async def test_a_group_of_version_1_limits_it(root: Path) -> None:
    belong(root, "5:cpu,cpuacct:/docker/a", "4:memory:/docker/a", "0::/")
    stat = "inactive_file 9\ntotal_inactive_file 1000000\n"
    limit_v1(root / V1 / "docker/a", 100 * MB, 95 * MB, stat)
    assert (await asked(root)).details == bound(6 * MB)


async def test_a_controller_may_share_its_line(root: Path) -> None:
    belong(root, "4:hugetlb,memory:/a")
    limit_v1(root / V1 / "a", 3 * MB, MB)
    assert (await asked(root)).details == bound(2 * MB)


async def test_the_tightest_of_the_groups_around_it_counts(root: Path) -> None:
    belong(root, "0::/pods/app")
    limit_v2(root / V2 / "pods", 100 * MB, 97 * MB)
    limit_v2(root / V2 / "pods/app", 50 * MB, 10 * MB)
    assert (await asked(root)).details == bound(3 * MB)


async def test_a_container_that_sees_its_own_group_as_the_root_is_limited_by_it(
    root: Path,
) -> None:
    belong(root, "4:memory:/docker/seen/from/outside")
    limit_v1(root / V1, 9 * MB, MB)
    assert (await asked(root)).details == bound(8 * MB)


async def test_a_version_1_limit_that_is_none_does_not_count(root: Path) -> None:
    belong(root, "4:memory:/")
    limit_v1(root / V1, 9_223_372_036_854_771_712, MB)
    assert (await asked(root)).details["bound_by"] == "machine"


async def test_a_group_over_its_limit_has_nothing_left(root: Path) -> None:
    belong(root, "0::/")
    limit_v2(root / V2, MB, 2 * MB)
    assert (await asked(root)).details == bound(0)


async def test_a_group_without_statistics_limits_it_too(root: Path) -> None:
    belong(root, "0::/")
    limit_v2(root / V2, 3 * MB, MB)
    (root / V2 / "memory.stat").unlink()
    assert (await asked(root)).details == bound(2 * MB)


async def test_what_the_system_raises_is_raised_by_check_and_false_by_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise PermissionError("no /proc here")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    check = MemoryHealthCheck()
    with pytest.raises(PermissionError):
        await check.check()
    assert await check() is False


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_size_that_is_none_is_refused(size: float) -> None:
    with pytest.raises(InvalidOptionError, match="min_available_bytes"):
        MemoryHealthCheck(min_available_bytes=size)


def test_without_psutil_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError, match=r"pip install 'cqrs-ddd-health\[psutil\]'"):
        MemoryHealthCheck()
