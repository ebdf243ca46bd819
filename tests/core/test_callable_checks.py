"""What can be registered as a check: every callable of the contract, and nothing else."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import SimpleNamespace
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest

from cqrs_ddd_health import CheckResult, HealthRegistry, InvalidCheckError, InvalidOptionError
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import kind_of, row_of


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


class AsyncCallable:
    async def __call__(self) -> bool:
        await asyncio.sleep(0)
        return True


class Client:
    """A client whose methods are checks."""

    def ping(self) -> bool:
        return True

    async def ping_async(self) -> bool:
        return True

    def ping_later(self) -> Awaitable[bool]:
        return self.ping_async()

    async def ping_host(self, host: str, *, port: int) -> bool:
        return bool(host and port)

    @staticmethod
    def plain() -> bool:
        return True

    @classmethod
    async def of_class(cls) -> bool:
        return True


class Both:
    """Has a typed `check` and the contract's `__call__`."""

    async def __call__(self) -> bool:
        return False

    async def check(self) -> CheckResult:
        return CheckResult(details={"asked": "check"})


class SyncTyped:
    def check(self) -> CheckResult:
        return CheckResult(details={"thread": threading.current_thread().name})


class NotReallyTyped:
    check = "a string"

    def __call__(self) -> bool:
        return True


class Slow(FakeCheck):
    timeout_seconds = 2.5


class Lazy:
    timeout_seconds = "soon"

    async def check(self) -> CheckResult:
        return CheckResult()


@pytest.mark.parametrize(
    "check",
    [
        lambda: True,
        lambda: 1,
        AsyncCallable(),
        Client().ping,
        Client().ping_async,
        Client().ping_later,
        Client.plain,
        Client.of_class,
        functools.partial(Client().ping_host, "localhost", port=1),
        functools.partial(functools.partial(Client().ping_host, "localhost"), port=1),
        functools.partial(AsyncCallable()),
        functools.partial(bool, 1),
        Both(),
        SyncTyped(),
        NotReallyTyped(),
        FakeCheck(),
        MagicMock(),
        Mock(return_value=True),
        AsyncMock(),
        AsyncMock(return_value=CheckResult()),
        MagicMock(return_value=CheckResult()),
        MagicMock(spec=FakeCheck, check=AsyncMock(return_value=CheckResult())),
        create_autospec(Client().ping_async, return_value=True),
        SimpleNamespace(check=AsyncMock(return_value=CheckResult())),
        create_autospec(FakeCheck, instance=True),
    ],
)
async def test_it_can_be_asked(registry: HealthRegistry, check: Callable[[], object]) -> None:
    registry.register("check", check)
    assert row_of(await registry.report()).state == "up"


async def test_a_sync_callable_that_returns_an_awaitable_is_awaited_on_the_loop(
    registry: HealthRegistry,
) -> None:
    threads: list[threading.Thread] = []

    async def answer() -> bool:
        threads.append(threading.current_thread())
        return False

    def check() -> Awaitable[bool]:
        threads.append(threading.current_thread())
        return answer()

    registry.register("check", check)
    assert kind_of(await registry.report()) == "falsy"
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.current_thread()


async def test_an_object_with_check_is_preferred_to_its_call(registry: HealthRegistry) -> None:
    registry.register("check", Both())
    assert row_of(await registry.report()).details == {"asked": "check"}


async def test_a_sync_check_method_runs_on_a_thread(registry: HealthRegistry) -> None:
    registry.register("check", SyncTyped())  # type: ignore[call-overload]
    assert row_of(await registry.report()).details == {"thread": "cqrs-health"}


@pytest.mark.parametrize("value", [False, None, 0])
async def test_mocks_may_say_no(registry: HealthRegistry, value: object) -> None:
    registry.register("sync", MagicMock(return_value=value))
    registry.register("async", AsyncMock(return_value=value))
    registry.register("raises", AsyncMock(side_effect=OSError))
    report = await registry.report()
    assert [row.failure and row.failure.kind for row in report.components] == [
        "falsy",
        "falsy",
        "exception",
    ]


async def test_a_callable_whose_signature_nobody_knows_is_asked(registry: HealthRegistry) -> None:
    registry.register("check", min)  # type: ignore[type-var]
    failure = row_of(await registry.report()).failure
    assert failure is not None
    assert failure.exception_type == "TypeError"


async def test_the_timeout_of_a_typed_check_is_honoured(registry: HealthRegistry) -> None:
    registry.register("typed", Slow())
    registry.register("keyword", Slow(), timeout_seconds=1)
    slots = registry._engine.catalog.slots
    assert (slots["typed"].options.timeout_seconds, slots["keyword"].options.timeout_seconds) == (
        2.5,
        1,
    )
    with pytest.raises(InvalidOptionError, match="timeout_seconds"):
        registry.register("lazy", Lazy())


def takes_one(argument: int) -> bool:
    return bool(argument)


def takes_a_keyword(*, option: int) -> bool:
    return bool(option)


def takes_defaults(argument: int = 1, *more: int, option: int = 2, **others: int) -> bool:
    return True


async def coroutine() -> bool:
    return True


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (None, "not callable but an instance of NoneType"),
        (True, "not callable"),
        ("lambda: True", "not callable"),
        (object(), "not callable"),
        (FakeCheck, "is the class FakeCheck, register an instance"),
        (dict, "is the class dict"),
        (takes_one, "without arguments.*functools.partial"),
        (takes_a_keyword, "without arguments"),
        (Client().ping_host, "without arguments"),
        (functools.partial(takes_one), "without arguments"),
    ],
)
def test_what_could_never_be_asked_is_refused_at_registration(
    registry: HealthRegistry, check: Callable[[], object], words: str
) -> None:
    with pytest.raises(InvalidCheckError, match=words) as refused:
        registry.register("check", check)
    assert "'check'" in str(refused.value)
    assert registry.names == ()


def test_a_coroutine_is_refused_and_closed(registry: HealthRegistry) -> None:
    never = coroutine()
    with pytest.raises(InvalidCheckError, match="instance of coroutine"):
        registry.register("check", never)  # type: ignore[call-overload]
    with pytest.raises(RuntimeError, match="cannot reuse"):
        never.send(None)


async def test_arguments_with_defaults_are_no_arguments(registry: HealthRegistry) -> None:
    registry.register("check", takes_defaults)
    assert row_of(await registry.report()).state == "up"


async def test_a_sync_callable_that_needs_the_loop_is_called_there() -> None:
    registry = HealthRegistry()
    threads: list[threading.Thread] = []

    def gathers() -> Awaitable[object]:
        threads.append(threading.current_thread())
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer

    registry.register("check", gathers)
    for _ in range(2):
        assert row_of(await registry.report()).state == "up"
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [False, True, True]


async def test_a_runtime_error_that_is_of_something_else_is_the_checks_failure() -> None:
    registry = HealthRegistry()
    calls: list[int] = []

    def broken() -> bool:
        calls.append(1)
        raise RuntimeError("out of order")

    registry.register("check", broken)
    assert kind_of(await registry.report()) == "exception"
    assert calls == [1]


def _generates() -> Generator[bool]:
    yield True


async def _generates_too() -> AsyncGenerator[bool]:
    yield True


@pytest.mark.parametrize("check", [_generates, _generates_too, functools.partial(_generates)])
def test_a_generator_function_is_refused_for_calling_it_runs_nothing(
    check: Callable[[], object],
) -> None:
    with pytest.raises(InvalidCheckError, match="generator"):
        HealthRegistry().register("check", check)
