"""Outcomes whose own code runs when they are looked at: each is a row, and wakes who waits."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, cast

import pytest

from cqrs_ddd_health import CheckOptions, CheckResult, ComponentStatus, HealthRegistry, run_blocking
from cqrs_ddd_health.domain.evaluation import Outcome
from cqrs_ddd_health.engine.history import Results
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import (
    PATIENCE_SECONDS,
    SHORT,
    Blocked,
    Gated,
    Stubborn,
    Told,
    eventually,
    kind_of,
    row_of,
    run_script,
    slot_of,
    waiting,
)

DUNDERS = (
    *("__eq__", "__ne__", "__hash__", "__bool__", "__repr__", "__str__", "__len__", "__iter__"),
    *("__lt__", "__le__", "__abs__", "__float__", "__int__", "__index__", "__format__", "__add__"),
    *("__contains__", "__getitem__", "__reduce_ex__", "__deepcopy__", "items", "keys", "get"),
)
BASES: dict[type, object] = {str: "x", int: 5, float: 1.5, dict: {"a": 1}, list: [1], tuple: (1,)}


def _leave(*_arguments: object, **_keywords: object) -> Any:
    raise SystemExit(3)


def hostile() -> Iterator[object]:
    """Each kind of value one method of which, or the class, ends the process."""
    for base, content in BASES.items():
        for name in DUNDERS:
            yield type(f"{base.__name__} {name}", (base,), {name: _leave})(content)
    for name in (*DUNDERS, "__getattribute__"):
        yield type(f"object {name}", (), {name: _leave})()
    yield type("without a class", (), {"__class__": property(_leave)})()
    for lie in (str, float, dict, Outcome, CheckResult):
        yield type(f"no {lie.__name__}", (), {"__class__": lie})()


class Endless(Mapping[str, object]):
    """A mapping that never comes to its end, and says so if at all."""

    def __init__(self, size: Callable[[], int], content: object = None) -> None:
        self.size = size
        self.content = self if content is None else content
        self.read = 0

    def __getitem__(self, key: str) -> object:
        return self.content

    def __iter__(self) -> Iterator[str]:
        for number in itertools.count():
            self.read += 1
            yield str(number)

    def __len__(self) -> int:
        return self.size()


def cyclic() -> object:
    value: list[object] = []
    value.append(value)
    return value


VALUES: dict[str, object] = {
    **{type(value).__name__: value for value in hostile()},
    "endless": Endless(lambda: 2**62),
    "endless without a size": Endless(_leave),
    "cyclic": cyclic(),
    "an outcome without a state": cast("Any", Outcome)("banana"),
    "an outcome without a failure": Outcome("down"),
}
"""By name: a test framework looks at what it gets as well."""


def results_of(value: object) -> list[Callable[[], object]]:
    """Every way in which a check may come up with it."""

    def raises() -> object:
        raise RuntimeError(value)

    return [
        lambda: value,
        raises,
        lambda: CheckResult(details={"a": value}),
        lambda: CheckResult.model_validate({"details": value}),
        lambda: CheckResult().model_copy(update={"details": value}),
        lambda: CheckResult().model_copy(update={"state": value}),
        lambda: CheckResult(state="down").model_copy(update={"message": value}),
        lambda: CheckResult.model_construct(state=value, details=value, message=value),
    ]


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


async def asked(registry: HealthRegistry, name: str = "check") -> ComponentStatus:
    """Return the row that an asker gets, if it gets one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await registry.report()
    report.model_dump_json()
    return row_of(report, name)


@pytest.mark.parametrize("name", VALUES)
async def test_no_value_ends_the_application_or_keeps_who_waits(
    registry: HealthRegistry, name: str
) -> None:
    for number, make in enumerate(results_of(VALUES[name])):

        async def check(make: Callable[[], object] = make) -> object:
            return make()

        registry.register(f"async {number}", check)
        registry.register(f"sync {number}", make)
        registry.register(f"here {number}", make, options=CheckOptions(blocking=False))
    for _ in range(2):
        async with asyncio.timeout(PATIENCE_SECONDS):
            reports = await asyncio.gather(registry.report(), registry.report())
        assert [len(report.components) for report in reports] == [24, 24]
        failures = [row.failure for row in reports[0].components if row.failure is not None]
        assert {failure.kind for failure in failures} <= {"falsy", "exception", "reported"}


class State(StrEnum):
    """A state as an application may name it."""

    DOWN = "down"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"state": "banana"}, "the state of the CheckResult is 'banana', and must be up or"),
        ({"state": None}, "the state of the CheckResult is an instance of NoneType"),
        ({"state": ["up"]}, "an instance of list"),
        ({"state": "x" * 10_000}, "xxx"),
        ({"state": "down", "message": 5}, "message of the CheckResult is an instance of int"),
        ({"message": b"fine"}, "an instance of bytes, and must be a text or None"),
        ({"details": [1]}, "details of the CheckResult is an instance of list"),
        ({"details": None}, "an instance of NoneType, and must be a mapping"),
    ],
)
async def test_a_result_that_was_never_validated_is_a_row_that_says_so(
    registry: HealthRegistry, changed: dict[str, object], words: str
) -> None:
    registry.register("sync", lambda: CheckResult().model_copy(update=changed))
    registry.register("async", Told(CheckResult().model_copy(update=changed)))
    for name in ("sync", "async"):
        row = await asked(registry, name)
        assert row.failure is not None
        assert (row.state, row.failure.kind, row.failure.exception_type) == (
            "down",
            "exception",
            "ValueError",
        )
        assert words in (row.failure.message or "")


async def test_a_state_that_is_a_member_of_an_enumeration_is_one(registry: HealthRegistry) -> None:
    registry.register("check", Told(CheckResult().model_copy(update={"state": State.DOWN})))
    row = await asked(registry)
    assert (row.state, row.failure and row.failure.kind) == ("down", "reported")


async def test_details_of_hostile_classes_are_plain_values(registry: HealthRegistry) -> None:
    evil: dict[str, object] = {
        base.__name__: type("Evil", (base,), dict.fromkeys(("__eq__", "__hash__"), _leave))(content)
        for base, content in BASES.items()
    }
    check = registry.register("check", Told(CheckResult(details=evil)))
    for _ in range(2):  # the second row is compared with the first one
        row = await asked(registry)
        assert (row.state, row.details) == (
            "up",
            {"str": "x", "int": 5, "float": 1.5, "dict": {"a": 1}, "list": (1,), "tuple": (1,)},
        )
        assert {type(row.details[name]) for name in ("str", "int", "float")} == {str, int, float}
    assert check.calls == 2


# --- bounded before it is copied


@pytest.mark.parametrize("size", [lambda: 2**62, lambda: 3, lambda: 0])
def test_a_result_takes_few_entries_of_endless_details(size: Callable[[], int]) -> None:
    endless = Endless(size)
    result = CheckResult(details=endless)
    assert list(result.details) == [str(number) for number in range(32)]
    assert endless.read == 32
    assert result.details["0"] is endless  # what is within is not copied


async def test_what_a_result_has_not_taken_is_counted(registry: HealthRegistry) -> None:
    check = registry.register("check", Told(CheckResult(details=Endless(lambda: 1_000, 5))))
    assert (await asked(registry)).details["omitted"] == 1_000 - 32
    check.outcome = CheckResult(details={str(number): number for number in range(33)})
    assert (await asked(registry)).details["omitted"] == 1
    check.outcome = CheckResult(details=Endless(lambda: 2**62, 5))
    assert (await asked(registry)).details["omitted"] == 2**53 - 1


def test_the_schema_of_a_result_says_that_details_are_an_object() -> None:
    schema = CheckResult.model_json_schema()["properties"]["details"]
    assert (schema["type"], schema["additionalProperties"]) == ("object", True)


def test_a_result_is_not_changed_by_what_it_was_made_of() -> None:
    details: dict[str, object] = {"a": 1}
    result = CheckResult(details=details)
    details["b"] = 2
    assert result.details == {"a": 1}


# --- what fails while an outcome is judged


async def test_what_fails_while_an_outcome_is_judged_is_the_checks_failure(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    add = Results.add

    def fails_at_first(results: Results, now: float, state: Any, latency: float) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit(3)
        add(results, now, state, latency)

    monkeypatch.setattr(Results, "add", fails_at_first)
    registry.register("check", Told())
    row = await asked(registry)
    assert row.failure is not None
    assert (row.failure.kind, row.failure.exception_type) == ("exception", "SystemExit")
    assert (await asked(registry)).state == "up"


async def test_who_waits_is_woken_though_no_outcome_can_be_judged(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise MemoryError

    loop = asyncio.get_running_loop()
    unhandled: list[object] = []
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context.get("exception")))
    gated = registry.register("check", Gated())
    stubborn = registry.register("stubborn", Stubborn(), timeout_seconds=SHORT)
    with monkeypatch.context() as patched:
        patched.setattr(Results, "add", fails)
        askers = [asyncio.create_task(registry.report()) for _ in range(3)]
        await eventually(lambda: waiting(registry) == 3)
        gated.gate.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            reports = await asyncio.gather(*askers)
        assert {len(report.components) for report in reports} == {2}
    stubborn.released.set()
    await eventually(lambda: slot_of(registry, "stubborn").flight is None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert row_of(await registry.report()).state == "up"


INTERRUPTED = """
import asyncio
from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.engine.history import Results
interrupts, add = [KeyboardInterrupt()], Results.add
def interrupted(*arguments):
    if interrupts:
        raise interrupts.pop()
    add(*arguments)
Results.add = interrupted
registry = HealthRegistry()
async def check():
    return True
registry.register("check", check)
loop = asyncio.new_event_loop()  # one that leaves Ctrl-C to Python
try:
    loop.run_until_complete(registry.report())
except KeyboardInterrupt:
    print("interrupted")
print(loop.run_until_complete(registry.report()).status)
"""


def test_the_users_interrupt_while_an_outcome_is_judged_reaches_the_application() -> None:
    assert run_script(INTERRUPTED).stdout.split() == ["interrupted", "healthy"]


async def test_a_clock_that_goes_back_is_said_by_the_row_of_the_run_that_it_was_in() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)
    gated = registry.register("check", Gated())
    askers = [asyncio.create_task(registry.report()) for _ in range(3)]
    await eventually(lambda: waiting(registry) == 3)
    clock.advance(-10)
    gated.gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        reports = await asyncio.gather(*askers)
    row = row_of(reports[0])
    assert row.failure is not None
    assert (row.state, row.failure.kind) == ("degraded", "unavailable")
    assert "the clock that was given went back" in (row.failure.message or "")
    clock.advance(1)
    assert row_of(await registry.report()).state == "up"


# --- words


class SlowError(Exception):
    """Says what it has to say once it is let, and notes on which thread it was asked."""

    def __init__(self) -> None:
        self.asked: list[threading.Thread] = []
        self.gate = threading.Event()

    def __str__(self) -> str:
        self.asked.append(threading.current_thread())
        self.gate.wait(PATIENCE_SECONDS)
        return "slow words"


class SlowRuntimeError(SlowError, RuntimeError):
    """May look like what asyncio raises where no event loop is running."""


@pytest.mark.parametrize("error_class", [SlowError, SlowRuntimeError])
async def test_the_words_of_what_a_sync_check_raises_are_read_on_its_thread(
    registry: HealthRegistry, error_class: type[SlowError]
) -> None:
    error = error_class()

    def check() -> bool:
        raise error

    registry.register("check", check)
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: bool(error.asked))  # and the loop goes on meanwhile
    error.gate.set()
    row = row_of(await asker)
    assert row.failure is not None
    assert (row.failure.exception_type, row.failure.message) == (error_class.__name__, "slow words")
    assert error.asked != []
    assert threading.current_thread() not in error.asked


async def test_the_words_of_what_a_blocking_call_raises_are_read_there_too(
    registry: HealthRegistry,
) -> None:
    error = SlowError()

    def call() -> bool:
        raise error

    @registry.register("check")
    async def check() -> bool:
        return await run_blocking(call)

    assert callable(check)
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: bool(error.asked))
    error.gate.set()
    row = row_of(await asker)
    assert row.failure is not None
    assert row.failure.message == "slow words"
    assert threading.current_thread() not in error.asked
    assert slot_of(registry).flight is None


async def test_what_is_raised_in_place_of_a_blocking_calls_error_has_its_own_words(
    registry: HealthRegistry,
) -> None:
    def call() -> bool:
        raise OSError("of the driver")

    @registry.register("check")
    async def check() -> bool:
        try:
            return await run_blocking(call)
        except OSError as error:
            raise ValueError("of the check") from error

    assert callable(check)
    row = row_of(await registry.report())
    assert row.failure is not None
    assert (row.failure.exception_type, row.failure.message) == ("ValueError", "of the check")


async def test_a_blocking_call_that_fails_after_its_run_leaves_nothing_behind(
    registry: HealthRegistry,
) -> None:
    blocked = Blocked()

    def call() -> object:
        blocked()
        raise OSError("too late")

    @registry.register("check", timeout_seconds=SHORT)
    async def check() -> object:
        return await run_blocking(call)

    assert callable(check)
    assert kind_of(await registry.report()) == "timeout"
    flight = slot_of(registry).flight
    assert flight is not None
    await eventually(lambda: flight.ended)
    blocked.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert flight.blamed is None


Nameless: Any = type("Nameless", (type,), {"__name__": property(_leave)})


def nameless_error() -> Exception:
    error: Exception = Nameless("NamelessError", (Exception,), {"__class__": property(_leave)})()
    return error


async def test_an_exception_that_will_not_say_what_it_is_is_a_failure(
    registry: HealthRegistry,
) -> None:
    async def check() -> bool:
        raise nameless_error()

    registry.register("async", check)
    registry.register("sync", _raising(nameless_error()))
    for name in ("async", "sync"):
        row = await asked(registry, name)
        assert row.failure is not None
        assert (row.failure.kind, row.failure.exception_type) == ("exception", "NamelessError")


def _raising(error: BaseException) -> Callable[[], bool]:
    def check() -> bool:
        raise error

    return check


async def test_a_tracer_that_ends_the_process_ends_no_report(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = type("tracer", (), {"get_current_span": staticmethod(_leave)})
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.trace", tracer)
    registry.register("check", Told(False))
    assert (await asked(registry)).failure is not None
