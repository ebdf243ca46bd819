"""Asking sync checks: on daemon threads, one a check, contained like async ones."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TypeVar

import pytest

from cqrs_ddd_health import (
    CheckOptions,
    CheckSettings,
    HealthRegistry,
    HealthSettings,
    run_blocking,
)
from cqrs_ddd_health.runtime.threads import DaemonThreads
from tests.core.actors import (
    SHORT,
    Blocked,
    ThreadedLoop,
    eventually,
    eventually_sync,
    kind_of,
    row_of,
    slot_of,
)

T = TypeVar("T")
request_id: ContextVar[str] = ContextVar("request_id", default="none")


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


def noted(notes: list[T], what: T) -> bool:
    """Be a check that is up and leaves a note."""
    notes.append(what)
    return True


async def test_a_sync_check_runs_on_a_daemon_thread_and_not_on_the_loop(
    registry: HealthRegistry,
) -> None:
    threads: list[threading.Thread] = []

    @registry.register("check")
    def check() -> bool:
        threads.append(threading.current_thread())
        return True

    await registry.report()
    assert row_of(await registry.report()).state == "up"
    assert callable(check)
    assert all(thread.daemon for thread in threads)
    assert threading.current_thread() not in threads


async def test_a_hung_sync_check_is_not_started_twice_and_is_counted_until_it_ends(
    registry: HealthRegistry,
) -> None:
    blocked = registry.register("check", Blocked(), timeout_seconds=SHORT)
    kinds = [kind_of(await registry.report()) for _ in range(4)]
    assert kinds[0] == "timeout"
    assert kinds[1:] == ["hung"] * 3
    assert (blocked.calls, registry.hung_checks) == (1, 1)
    assert [thread.is_alive() for thread in blocked.threads] == [True]
    blocked.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert row_of(await registry.report()).state == "up"
    assert blocked.calls == 2


@pytest.mark.parametrize("number", [1, 32, 64])
async def test_checks_that_never_return_do_not_touch_the_others(
    registry: HealthRegistry, number: int
) -> None:
    hanging = [
        registry.register(f"hangs {index}", Blocked(), timeout_seconds=SHORT)
        for index in range(number)
    ]
    await registry.report()
    registry.register("check", lambda: True)
    report = await registry.report()
    assert row_of(report).state == "up"
    assert registry.hung_checks == number
    assert await asyncio.to_thread(lambda: "the loop's executor is free") != ""
    for check in hanging:
        check.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_askers_that_come_meanwhile_share_the_thread(registry: HealthRegistry) -> None:
    blocked = registry.register("check", Blocked())
    askers = [asyncio.create_task(registry.report()) for _ in range(100)]
    await eventually(lambda: blocked.calls == 1)
    blocked.released.set()
    assert {row_of(report).state for report in await asyncio.gather(*askers)} == {"up"}
    assert blocked.calls == 1


async def test_the_cancelled_asker_leaves_the_thread_to_the_others(
    registry: HealthRegistry,
) -> None:
    blocked = registry.register("check", Blocked())
    first, second = (asyncio.create_task(registry.report()) for _ in range(2))
    await eventually(lambda: blocked.calls == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    blocked.released.set()
    assert row_of(await second).state == "up"
    assert blocked.calls == 1


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), TimeoutError(), ValueError()],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_sync_check_raises_is_its_failure(
    registry: HealthRegistry, error: BaseException
) -> None:
    def check() -> bool:
        raise error

    registry.register("check", check)
    failure = row_of(await registry.report()).failure
    assert failure is not None
    assert (failure.kind, failure.exception_type) == ("exception", type(error).__name__)


async def test_a_sync_check_does_not_see_the_context_of_who_asked(
    registry: HealthRegistry,
) -> None:
    seen: list[str] = []
    registry.register("check", lambda: noted(seen, request_id.get()))
    request_id.set("the asker's")
    await registry.report()
    assert seen == ["none"]


async def test_the_truth_of_an_answer_is_read_on_the_thread(registry: HealthRegistry) -> None:
    threads: list[threading.Thread] = []

    class Answer:
        def __bool__(self) -> bool:
            threads.append(threading.current_thread())
            return True

    registry.register("check", lambda: Answer())  # noqa: PLW0108 - a class is no check
    assert row_of(await registry.report()).state == "up"
    assert threading.current_thread() not in threads


async def test_a_check_that_does_not_block_runs_on_the_loop_when_told_so(
    registry: HealthRegistry,
) -> None:
    threads: list[threading.Thread] = []
    registry.register(
        "check",
        lambda: noted(threads, threading.current_thread()),
        options=CheckOptions(blocking=False),
    )
    assert row_of(await registry.report()).state == "up"
    assert threads == [threading.current_thread()]


async def test_a_check_on_the_loop_is_contained_as_well(registry: HealthRegistry) -> None:
    def check() -> bool:
        raise SystemExit(3)

    registry.register("check", check, options=CheckOptions(blocking=False))
    assert kind_of(await registry.report()) == "exception"


async def test_the_environment_may_take_a_check_off_its_thread() -> None:
    settings = HealthSettings(checks={"check": CheckSettings(blocking=False)})
    registry = HealthRegistry(settings=settings)
    threads: list[threading.Thread] = []
    registry.register("check", lambda: noted(threads, threading.current_thread()))
    await registry.report()
    assert threads == [threading.current_thread()]


async def test_beyond_the_limit_a_check_waits_for_a_thread_and_counts_as_late() -> None:
    registry = HealthRegistry(settings=HealthSettings(max_threads=1))
    blocked = registry.register("hangs", Blocked(), timeout_seconds=SHORT)
    waits = registry.register("check", Blocked(), timeout_seconds=SHORT)
    waits.released.set()
    report = await registry.report()
    assert (kind_of(report, "hangs"), kind_of(report)) == ("timeout", "timeout")
    assert (waits.calls, registry.hung_checks) == (0, 2)
    blocked.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert waits.calls == 0  # nobody waited for it any more when its turn came
    assert row_of(await registry.report()).state == "up"
    assert waits.calls == 1


async def test_no_thread_to_be_had_is_a_failure_and_frees_the_slot(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    registry.register("check", lambda: True)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        failure = row_of(await registry.report()).failure
    assert failure is not None
    assert failure.exception_type == "RuntimeError"
    assert (registry.hung_checks, slot_of(registry).flight) == (0, None)
    assert row_of(await registry.report()).state == "up"


# --- run_blocking


async def test_run_blocking_returns_what_the_call_returns() -> None:
    assert await run_blocking(lambda: 42) == 42


async def test_run_blocking_raises_what_the_call_raises() -> None:
    def leave() -> int:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await run_blocking(leave)


async def test_run_blocking_obeys_cancellation_at_once() -> None:
    blocked = Blocked()
    task = asyncio.create_task(run_blocking(blocked))
    await eventually(lambda: blocked.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    blocked.released.set()
    await eventually(lambda: not blocked.threads[0].is_alive())


async def test_run_blocking_without_a_thread_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        await run_blocking(lambda: 1)


async def test_a_check_that_blocks_on_purpose_holds_its_slot_until_its_threads_end(
    registry: HealthRegistry,
) -> None:
    first, second = Blocked(), Blocked()

    async def check() -> bool:
        await asyncio.gather(run_blocking(first), run_blocking(second))
        return True

    registry.register("check", check, timeout_seconds=SHORT)
    assert kind_of(await registry.report()) == "timeout"
    await eventually(lambda: (first.calls, second.calls) == (1, 1))
    first.released.set()
    await eventually(lambda: not first.threads[0].is_alive())
    assert kind_of(await registry.report()) == "hung"
    assert registry.hung_checks == 1
    second.released.set()
    await eventually(lambda: registry.hung_checks == 0)
    assert (first.calls, second.calls) == (1, 1)


def test_a_thread_whose_loop_was_closed_meanwhile_ends_quietly() -> None:
    blocked = Blocked()
    with ThreadedLoop() as other:
        asyncio.run_coroutine_threadsafe(run_blocking(blocked), other.loop)
        eventually_sync(lambda: blocked.calls == 1)
        other.stop()
        for task in asyncio.all_tasks(other.loop):
            task.cancel()
        other.loop.run_until_complete(asyncio.sleep(0))
    blocked.released.set()
    eventually_sync(lambda: not blocked.threads[0].is_alive())


def left_behind(registry: HealthRegistry, timeout_seconds: float) -> Blocked:
    """A check whose thread goes on after the loop of its run has ended."""
    blocked = registry.register("check", Blocked(), timeout_seconds=timeout_seconds)

    async def leave_early() -> None:
        await registry.report(deadline_seconds=0)
        await eventually(lambda: blocked.calls == 1)

    asyncio.run(leave_early())
    return blocked


def test_a_blocking_call_that_its_loop_has_left_is_pending_until_its_time_is_up() -> None:
    registry = HealthRegistry()
    blocked = left_behind(registry, timeout_seconds=60)
    pending = asyncio.run(registry.report(deadline_seconds=0))
    assert kind_of(pending) == "pending"
    assert registry.hung_checks == 0
    assert blocked.calls == 1
    blocked.released.set()
    eventually_sync(lambda: not blocked.threads[0].is_alive())
    assert row_of(asyncio.run(registry.report())).state == "up"
    assert blocked.calls == 2


def test_a_blocking_call_that_its_loop_has_left_hangs_when_its_time_is_up() -> None:
    registry = HealthRegistry()
    blocked = left_behind(registry, timeout_seconds=SHORT)
    assert kind_of(asyncio.run(registry.report())) == "timeout"
    assert kind_of(asyncio.run(registry.report())) == "hung"
    assert registry.hung_checks == 1
    blocked.released.set()
    eventually_sync(lambda: registry.hung_checks == 0)
    assert row_of(asyncio.run(registry.report())).state == "up"
    assert blocked.calls == 2


async def test_who_waits_for_a_call_that_was_left_gets_an_answer_when_it_ends() -> None:
    registry = HealthRegistry()
    blocked = await asyncio.to_thread(left_behind, registry, 60)
    asking = asyncio.create_task(registry.report())
    hasty = await registry.report(deadline_seconds=SHORT)
    assert kind_of(hasty) == "pending"
    impatient = asyncio.create_task(registry.report(deadline_seconds=60))
    await asyncio.sleep(0)
    blocked.released.set()
    assert row_of(await asking).state == "up"
    assert row_of(await impatient).state == "up"
    assert blocked.calls == 2


# --- threads


def test_a_thread_takes_the_next_job_that_waits() -> None:
    threads = DaemonThreads(limit=1)
    gate, order = threading.Event(), list[str]()

    def first() -> None:
        gate.wait()
        order.append("first")

    for job in (first, lambda: order.append("second"), lambda: order.append("third")):
        threads.submit(job)
    gate.set()
    eventually_sync(lambda: len(order) == 3)
    assert order == ["first", "second", "third"]
