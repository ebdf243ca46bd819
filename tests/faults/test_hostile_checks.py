"""Checks that block the loop, ignore their cancellation, raise or return anything.

Rows 13, 14, 16 and 17.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthReport
from tests.asking import NAME, asked, failure_of, kinds_of, registry_of, row_of
from tests.faults.figures import Record

BLOCK_SECONDS = 0.4


async def test_a_check_that_blocks_the_loop_makes_the_others_late_but_not_wrong(
    record: Record,
) -> None:
    """Row 13. What the loop was late for shows as the latency of all, and as nobody's failure.

    Red when `Runner._land` judges with a latency of 0.0.
    """

    async def blocks() -> bool:
        await asyncio.sleep(0)
        time.sleep(BLOCK_SECONDS)
        return True

    async def innocent() -> bool:
        await asyncio.sleep(0.01)
        return True

    registry = HealthRegistry()
    registry.register("blocks", blocks, timeout_seconds=5)
    registry.register("innocent", innocent, timeout_seconds=5)
    registry.register("in a thread", lambda: True, timeout_seconds=5)
    report = await registry.report()
    latencies = {row.name: row.latency_seconds or 0.0 for row in report.components}
    assert report.status == "healthy"
    assert latencies["blocks"] >= BLOCK_SECONDS
    assert latencies["innocent"] >= BLOCK_SECONDS
    record(13, f"lag by a check that blocks for {BLOCK_SECONDS:g} s", lag(latencies), "ms")


def lag(latencies: dict[str, float]) -> float:
    return (latencies["innocent"] - 0.01) * 1e3


async def test_a_check_that_swallows_its_cancellation_is_answered_and_counted_once(
    record: Record,
) -> None:
    """Row 14. The orphan goes on, is shown as hung, and no second one is started beside it.

    Red when `Runner._flights_for` starts a new flight where the old one is decided.
    """
    starts = 0
    release = asyncio.Event()

    async def stubborn() -> bool:
        nonlocal starts
        starts += 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return True

    registry = registry_of(stubborn, timeout_seconds=0.05)
    assert await kinds_of(registry, 10) == ["timeout"] + ["hung"] * 9
    record(14, "orphans of a check that swallows its cancellation", registry.hung_checks, "orphans")
    assert (registry.hung_checks, starts) == (1, 1)
    release.set()
    async with asyncio.timeout(5):
        while registry.hung_checks:
            await asyncio.sleep(0.001)
    assert (await row_of(registry)).state == "up"
    assert starts == 2


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def nested_group(depth: int) -> ExceptionGroup[Exception]:
    group: ExceptionGroup[Exception] = ExceptionGroup("bottom", [ValueError("cause")])
    for _ in range(depth):
        group = ExceptionGroup("level", [group])
    return group


RAISED: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": TimeoutError,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "WordlessError": WordlessError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "ExceptionGroup": lambda: nested_group(1_000),
    "RuntimeError": lambda: RuntimeError("x" * 10_000_000),
    "UnicodeError": lambda: UnicodeError("\ud800\x00\u202e" * 1_000),
}
MAX_ROW_BYTES = 16_384


def size_of(report: HealthReport) -> int:
    """How many bytes it has on the wire, after it was read back from there."""
    text = report.model_dump_json()
    assert HealthReport.model_validate_json(text) == report
    return len(text.encode())


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("how", ["async", "sync", "inline"])
async def test_whatever_a_check_raises_is_a_row_of_bounded_size(
    record: Record, how: str, name: str
) -> None:
    """Row 16. The loop lives, the next run is asked, and the kind is the right one.

    Red when `Runner._fly` catches `Exception` instead of `BaseException`, or `safe_text` cuts
    nothing.
    """

    make = RAISED[name]

    async def raise_later() -> NoReturn:
        await asyncio.sleep(0)
        error = make()
        raise error

    def raise_now() -> NoReturn:
        error = make()
        raise error

    registry = HealthRegistry()
    check = raise_later if how == "async" else raise_now
    registry.register(NAME, check, options=CheckOptions(blocking=how != "inline"))
    registry.register("innocent", lambda: True)
    for report in [await registry.report() for _ in range(2)]:
        row = report.component(NAME)
        assert row is not None
        kind, exception = failure_of(row)
        assert kind == "exception"
        # PEP 479: these two leave a coroutine as a RuntimeError.
        stopped = name in {"StopIteration", "StopAsyncIteration"}
        assert exception == name or (stopped and exception == "RuntimeError")
        innocent = report.component("innocent")
        assert innocent is not None
        assert innocent.state == "up"
        size = size_of(report)
        record(16, f"largest report of a check that raises, {how}", size, "bytes")
        assert size < MAX_ROW_BYTES


def unjudgeable() -> object:
    return Unjudgeable()


class Unjudgeable:
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


async def nothing() -> None:
    """A coroutine that a sync check returns."""


def recursive() -> dict[str, Any]:
    endless: dict[str, Any] = {}
    endless["itself"] = endless
    return endless


RETURNED: dict[str, tuple[Callable[[], object], str]] = {
    "None": (lambda: None, "falsy"),
    "NaN": (lambda: math.nan, "up"),
    "an object without truth": (unjudgeable, "exception"),
    "a coroutine of None": (nothing, "falsy"),
    "an empty list": (list[object], "falsy"),
    "a string": (lambda: "down", "up"),
    "50 MB of details": (lambda: CheckResult(details={"text": "x" * 50_000_000}), "up"),
    "a million details": (lambda: CheckResult(details={str(n): n for n in range(10**6)}), "up"),
    "details without end": (lambda: CheckResult(details=recursive()), "up"),
    "details of NaN": (lambda: CheckResult(details={"ratio": math.nan}), "up"),
    "no text at all": (
        lambda: CheckResult(state="down", message="\ud800" * 10**6),
        "reported",
    ),
}


@pytest.mark.parametrize("what", RETURNED)
async def test_whatever_a_check_returns_is_read_or_down_and_cut(record: Record, what: str) -> None:
    """Row 17. Details are cut where they enter, so that a report is small and is JSON.

    Red when `json_safe` returns its details as they are, or `outcome_of` does not ask for truth.
    """
    make, expected = RETURNED[what]
    registry = registry_of(make)
    report = await registry.report()
    row = report.component(NAME)
    assert row is not None
    assert (row.failure.kind if row.failure else row.state) == expected
    size = size_of(report)
    json.loads(report.model_dump_json(), parse_constant=refuse)
    record(17, "largest report of a check that returns anything", size, "bytes")
    assert size < MAX_ROW_BYTES


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


async def test_a_coroutine_that_nobody_awaited_is_awaited() -> None:
    """Row 17. A sync function that returns an awaitable is an async check.

    Red when `_read` judges an awaitable by its truth.
    """

    async def no() -> bool:
        return False

    def call() -> object:
        return no()

    assert failure_of(await asked(call))[0] == "falsy"
