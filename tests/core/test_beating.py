"""Beats from decorated functions and loops, from long steps, and from the toolkit's hooks."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence

import pytest

from cqrs_ddd_health import HealthRegistry, InvalidNameError, InvalidOptionError
from cqrs_ddd_health.hooks import HeartbeatHook, Hook, register_heartbeat_hook
from cqrs_ddd_health.testing import FakeClock, clean_registry


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> HealthRegistry:
    return HealthRegistry(60, clock=clock)


async def beaten(registry: HealthRegistry) -> dict[str, float | None]:
    """The age of each worker's last beat."""
    return {beat.worker: beat.age_seconds for beat in (await registry.report()).heartbeats}


# --- decorators


async def test_a_function_beats_when_it_has_ended_well(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    @registry.beats("sync")
    def step(number: int, *, fail: bool = False) -> int:
        """Do one step."""
        if fail:
            raise LookupError
        return number + 1

    @registry.beats("async")
    async def task(number: int) -> int:
        return step(number) + 1

    assert await beaten(registry) == {}
    assert await task(1) == 3
    assert (step.__name__, step.__doc__) == ("step", "Do one step.")
    clock.advance(5)
    with pytest.raises(LookupError):
        step(1, fail=True)
    assert await beaten(registry) == {"async": 5, "sync": 5}


async def test_a_loop_beats_with_each_item(registry: HealthRegistry, clock: FakeClock) -> None:
    closed: list[str] = []

    @registry.beats("sync")
    def numbers() -> Generator[int]:
        yield from range(3)

    @registry.beats("async")
    async def messages() -> AsyncGenerator[int]:
        try:
            for number in range(3):
                yield number
        finally:
            closed.append("async")

    for _ in numbers():
        clock.advance(1)
        assert await beaten(registry) == {"sync": 1}
    registry.retire("sync")
    taking = messages()
    await anext(taking)
    clock.advance(1)
    assert await beaten(registry) == {"async": 1}
    await taking.aclose()
    assert closed == ["async"]
    assert [number async for number in messages()] == [0, 1, 2]


async def test_a_long_step_has_a_timeout_of_its_own(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    async with registry.working("rebuild", timeout_seconds=300):
        clock.advance(250)
        (beat,) = (await registry.report()).heartbeats
        assert (beat.state, beat.phase, beat.timeout_seconds) == ("up", "busy", 300)
    (beat,) = (await registry.report()).heartbeats
    assert (beat.age_seconds, beat.phase, beat.timeout_seconds) == (0, "idle", 60)


async def test_a_step_that_fails_does_not_beat_at_its_end(
    registry: HealthRegistry, clock: FakeClock
) -> None:
    async def step() -> None:
        async with registry.working("rebuild"):
            clock.advance(10)
            raise LookupError

    with pytest.raises(LookupError):
        await step()
    assert await beaten(registry) == {"rebuild": 10}


def test_a_bad_name_is_refused_when_it_is_decorated(registry: HealthRegistry) -> None:
    with pytest.raises(InvalidNameError):
        registry.beats("")


# --- hooks


class Hooks:
    """The toolkit's registry of hooks, as far as it matters."""

    def __init__(self) -> None:
        self.registered: list[tuple[Hook, int, Sequence[str] | None]] = []

    def register(
        self,
        hook: Hook,
        *,
        priority: int = 0,
        predicate: Callable[..., bool] | None = None,
        operations: Sequence[str] | None = None,
        message_types: Sequence[type] | None = None,
        enabled: bool = True,
    ) -> None:
        assert (predicate, message_types, enabled) == (None, None, True)
        self.registered.append((hook, priority, operations))


async def handled() -> str:
    return "handled"


def run(hook: Hook, operation: str, handler: Callable[[], Awaitable[object]]) -> Awaitable[object]:
    attributes: Mapping[str, object] = {"message": 1}
    return hook(operation, attributes, handler)


async def test_what_is_handled_is_a_beat_of_the_worker_that_the_first_pattern_names(
    registry: HealthRegistry,
) -> None:
    hook = HeartbeatHook(
        {"outbox.*.publish": "outbox", "*.worker.*": "any", "outbox.*": "never"}, registry=registry
    )
    assert hook.operations == ("outbox.*.publish", "*.worker.*", "outbox.*")
    for operation in ("outbox.worker.publish", "saga.worker.run", "saga.handler.run"):
        assert await run(hook, operation, handled) == "handled"
    assert (await beaten(registry)).keys() == {"outbox", "any"}


@pytest.mark.parametrize("before", [False, True])
async def test_what_fails_is_no_beat_unless_its_beginning_is(
    registry: HealthRegistry, clock: FakeClock, *, before: bool
) -> None:
    hook = HeartbeatHook({"*": "worker"}, before=before, registry=registry)

    async def broken() -> None:
        clock.advance(5)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await run(hook, "outbox.worker.publish", broken)
    assert await beaten(registry) == ({"worker": 5} if before else {})


async def test_a_handler_that_is_cancelled_is_no_beat(registry: HealthRegistry) -> None:
    hook = HeartbeatHook({"*": "worker"}, registry=registry)
    handling = asyncio.ensure_future(run(hook, "a", asyncio.Event().wait))
    await asyncio.sleep(0)
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert await beaten(registry) == {}


async def test_it_registers_with_the_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks, core = Hooks(), types.ModuleType("cqrs_ddd_core")
    vars(core)["get_hook_registry"] = lambda: hooks
    monkeypatch.setitem(sys.modules, "cqrs_ddd_core", core)
    with clean_registry() as registry:
        hook = register_heartbeat_hook({"*.worker.*": "worker"}, priority=7)
        assert hooks.registered == [(hook, 7, ["*.worker.*"])]
        await run(hook, "outbox.worker.publish", handled)
        assert (await beaten(registry)).keys() == {"worker"}


def test_another_registry_of_hooks_needs_no_toolkit(registry: HealthRegistry) -> None:
    hooks = Hooks()
    hook = register_heartbeat_hook({"*": "worker"}, registry=registry, hooks=hooks)
    assert hooks.registered == [(hook, 0, ["*"])]
    with pytest.raises(ImportError):
        register_heartbeat_hook({"*": "worker"})


def test_a_hook_for_nothing_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="workers must name"):
        HeartbeatHook({})
    with pytest.raises(InvalidNameError):
        HeartbeatHook({"*": ""})
