"""The check of a disk: how much room there is, and that there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqrs_ddd_health import DiskSpaceHealthCheck, InvalidOptionError


async def test_a_disk_with_room_is_up_and_says_how_much(tmp_path: Path) -> None:
    check = DiskSpaceHealthCheck(tmp_path, min_free_bytes=1)
    result = await check.check()
    assert result.state == "up"
    assert set(result.details) == {"free_bytes", "total_bytes"}
    assert await check()


async def test_a_disk_without_room_is_down(tmp_path: Path) -> None:
    check = DiskSpaceHealthCheck(str(tmp_path), min_free_bytes=1e30)
    result = await check.check()
    assert (result.state, await check()) == ("down", False)
    assert "bytes are free" in (result.message or "")


async def test_a_path_that_is_not_there_raises_and_is_down(tmp_path: Path) -> None:
    check = DiskSpaceHealthCheck(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        await check.check()
    assert await check() is False


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_size_that_is_none_is_refused(size: float) -> None:
    with pytest.raises(InvalidOptionError, match="min_free_bytes"):
        DiskSpaceHealthCheck("/", min_free_bytes=size)
