"""What a check may raise and return: whatever it is, it ends as one small row of the report."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from cqrs_ddd_health import CheckResult, HealthRegistry
from tests.core.actors import Told, kind_of, row_of


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Untrue:
    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class Endless:
    """An awaitable that brings another one, for ever."""

    def __await__(self) -> Generator[None, None, Endless]:
        yield
        return Endless()


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError("of its own"),
        TimeoutError("the driver's own"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        ValueError("no"),
        StopAsyncIteration(),
        BaseExceptionGroup("several", [SystemExit(), ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_check_raises_is_its_failure_and_the_loop_lives(
    registry: HealthRegistry, error: BaseException
) -> None:
    check = registry.register("check", Told(error))
    failure = row_of(await registry.report()).failure
    assert failure is not None
    assert (failure.kind, failure.exception_type) == ("exception", type(error).__name__)
    await asyncio.sleep(0)
    check.outcome = True
    assert row_of(await registry.report()).state == "up"


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError()],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_check_raises_after_it_was_suspended_is_its_failure_too(
    registry: HealthRegistry, error: BaseException
) -> None:
    async def check() -> bool:
        await asyncio.sleep(0)
        raise error

    registry.register("check", check)
    assert kind_of(await registry.report()) == "exception"


async def test_an_exception_without_words_is_a_failure_without_a_message(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(UnprintableError()))
    failure = row_of(await registry.report()).failure
    assert failure is not None
    assert (failure.exception_type, failure.message) == ("UnprintableError", None)


async def test_megabytes_of_text_in_an_exception_are_cut(registry: HealthRegistry) -> None:
    registry.register("check", Told(ValueError("x" * 10_000_000)))
    report = await registry.report()
    assert len(report.model_dump_json()) < 5_000


async def test_an_exception_group_a_thousand_deep_is_one_small_failure(
    registry: HealthRegistry,
) -> None:
    group = ExceptionGroup[Exception]("innermost", [ValueError()])
    for _ in range(1_000):
        group = ExceptionGroup[Exception]("outer", [group])
    registry.register("check", Told(group))
    report = await registry.report()
    assert kind_of(report) == "exception"
    assert len(report.model_dump_json()) < 5_000


@pytest.mark.parametrize("value", [None, False, 0, "", [], 0.0])
async def test_a_falsy_answer_is_down_and_falsy(registry: HealthRegistry, value: object) -> None:
    registry.register("check", Told(value))
    assert kind_of(await registry.report()) == "falsy"


@pytest.mark.parametrize("value", [True, 1, "ok", [0], float("nan"), object()])
async def test_a_truthy_answer_is_up(registry: HealthRegistry, value: object) -> None:
    registry.register("check", Told(value))
    assert row_of(await registry.report()).state == "up"


async def test_an_answer_without_a_truth_is_an_exception(registry: HealthRegistry) -> None:
    registry.register("check", Told(Untrue()))
    failure = row_of(await registry.report()).failure
    assert failure is not None
    assert (failure.kind, failure.exception_type) == ("exception", "RuntimeError")


async def test_a_result_says_its_own_state_words_and_details(registry: HealthRegistry) -> None:
    said = CheckResult(state="degraded", message="slow\nvery", details={"lag": 3})
    registry.register("check", Told(said))
    row = row_of(await registry.report())
    assert row.failure is not None
    assert (row.state, row.failure.kind, row.failure.message) == (
        "degraded",
        "reported",
        "slow very",
    )
    assert row.details == {"lag": 3}


async def test_a_result_may_be_up_with_details_or_down_without_words(
    registry: HealthRegistry,
) -> None:
    check = registry.register("check", Told(CheckResult(details={"a": 1})))
    assert row_of(await registry.report()).details == {"a": 1}
    check.outcome = CheckResult(details={"a": 2})
    assert row_of(await registry.report()).details == {"a": 2}
    check.outcome = CheckResult(state="down")
    row = row_of(await registry.report())
    assert (row.state, row.failure and row.failure.message) == ("down", None)


async def test_megabytes_of_details_are_cut(registry: HealthRegistry) -> None:
    details = {f"key {number}": "x" * 10_000 for number in range(2_000)}
    registry.register("check", Told(CheckResult(details=details)))
    report = await registry.report()
    assert len(report.model_dump_json()) < 100_000
    assert row_of(report).details["omitted"] == 2_000 - 32


async def test_an_awaitable_answer_is_awaited_but_not_for_ever(registry: HealthRegistry) -> None:
    async def no() -> bool:
        return False

    async def yes() -> object:
        return asyncio.ensure_future(no())

    registry.register("check", yes)
    registry.register("endless", Told(Endless()))
    report = await registry.report()
    assert (kind_of(report), kind_of(report, "endless")) == ("falsy", "falsy")


class LoudError(Exception):
    def __init__(self, said: BaseException) -> None:
        self.said = said

    def __str__(self) -> str:
        raise self.said


def _raise_for_the_name(_cls: type) -> str:
    raise OSError("no name")


Nameless: Any = type("Nameless", (type,), {"__name__": property(_raise_for_the_name)})
NamelessError: type[Exception] = Nameless("NamelessError", (Exception,), {})


@pytest.mark.parametrize("said", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_an_exception_whose_words_raise_is_an_exception_all_the_same(
    registry: HealthRegistry, said: BaseException
) -> None:
    registry.register("check", Told(LoudError(said)))
    row = row_of(await registry.report())
    assert row.failure is not None
    assert (row.failure.kind, row.failure.exception_type) == ("exception", "LoudError")


async def test_an_exception_whose_class_will_not_say_its_name_has_one(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(NamelessError()))
    row = row_of(await registry.report())
    assert row.failure is not None
    assert row.failure.exception_type == "NamelessError"


async def test_a_generator_that_nobody_runs_says_nothing(registry: HealthRegistry) -> None:
    registry.register("check", lambda: (answer for answer in (True,)))
    assert kind_of(await registry.report()) == "falsy"
