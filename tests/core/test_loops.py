"""One registry and many loops: one after the other, at once, none at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from cqrs_ddd_health import BlockingCallError, HealthRegistry, HealthReport, InvalidOptionError
from tests.core.actors import (
    PATIENCE_SECONDS,
    SHORT,
    Blocked,
    Gated,
    Stubborn,
    ThreadedLoop,
    Told,
    eventually_sync,
    kind_of,
    row_of,
    slot_of,
    waiting,
)


class LoopSpy:
    """An async check that remembers the loops that it ran on."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def __call__(self) -> bool:
        self.loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return True


class ClosingLoop(asyncio.SelectorEventLoop):
    """A loop that somebody closes between the question whether it runs and the next call."""

    closing = False

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: object, **kwargs: object
    ) -> asyncio.Handle:
        if self.closing:
            raise RuntimeError("Event loop is closed")
        return super().call_soon_threadsafe(callback, *args)


class PromptLoop(asyncio.SelectorEventLoop):
    """A loop that has done what another thread asks of it before that thread goes on."""

    prompt = False

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: object, **kwargs: object
    ) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(callback, *args)
        if self.prompt and self is not running_loop():
            done = threading.Event()
            super().call_soon_threadsafe(self.call_later, SHORT, done.set)
            done.wait(PATIENCE_SECONDS)
        return handle


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Asker(threading.Thread):
    """Asks by `report_sync` on a thread of its own."""

    def __init__(self, registry: HealthRegistry) -> None:
        super().__init__(daemon=True)
        self._registry = registry
        self.answer: HealthReport | None = None
        self.start()

    def run(self) -> None:
        self.answer = self._registry.report_sync()


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


# --- one after the other


def test_loops_one_after_the_other_each_ask(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    for _ in range(3):
        assert row_of(asyncio.run(registry.report())).state == "up"
    assert len(set(spy.loops)) == 3


def test_a_flight_whose_loop_is_gone_does_not_block_the_next_loop(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    left_behind = asyncio.new_event_loop()
    left_behind.run_until_complete(registry.report(deadline_seconds=0))
    left_behind.run_until_complete(asyncio.sleep(0))

    async def opened() -> HealthReport:
        gated.gate = asyncio.Event()
        gated.gate.set()
        return await registry.report()

    assert row_of(asyncio.run(opened())).state == "up"
    assert gated.calls == 2
    for task in asyncio.all_tasks(left_behind):
        task.cancel()
    left_behind.run_until_complete(asyncio.sleep(0))
    left_behind.close()


def test_a_flight_that_was_given_up_and_comes_back_decides_nothing(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated(answer=False))
    paused = asyncio.new_event_loop()
    paused.run_until_complete(registry.report(deadline_seconds=0))
    paused.run_until_complete(asyncio.sleep(0))
    old_gate, gated.gate, gated.answer = gated.gate, asyncio.Event(), True
    gated.gate.set()
    assert row_of(asyncio.run(registry.report())).state == "up"

    async def late() -> None:
        gated.answer = False
        old_gate.set()
        await asyncio.sleep(SHORT)

    paused.run_until_complete(late())
    paused.close()
    assert row_of(asyncio.run(registry.report(max_age_seconds=60))).state == "up"


def test_a_hung_check_of_a_loop_that_is_gone_is_not_counted_for_ever(
    registry: HealthRegistry,
) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    assert kind_of(asyncio.run(registry.report())) == "timeout"
    assert registry.hung_checks == 1

    async def released() -> HealthReport:
        stubborn.released = asyncio.Event()
        stubborn.released.set()
        return await registry.report()

    assert row_of(asyncio.run(released())).state == "up"
    assert registry.hung_checks == 0


def test_an_asker_that_was_left_waiting_with_its_loop_is_forgotten(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated())
    with ThreadedLoop() as owner:
        owner.report(registry, deadline_seconds=0)
        other = asyncio.new_event_loop()
        asker = other.create_task(registry.report())
        other.run_until_complete(asyncio.sleep(0))
        assert waiting(registry) == 1
        asker.cancel()
        other.run_until_complete(asyncio.gather(asker, return_exceptions=True))
        assert waiting(registry) == 0
        other.close()
        owner.loop.call_soon_threadsafe(gated.gate.set)
        eventually_sync(lambda: slot_of(registry).flight is None)


# --- at once


def test_of_two_loops_at_once_only_the_owner_runs_async_checks(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    with ThreadedLoop() as owner, ThreadedLoop() as other:
        assert row_of(owner.report(registry)).state == "up"
        for _ in range(3):
            assert row_of(other.report(registry)).state == "up"
        assert set(spy.loops) == {owner.loop}


def test_askers_on_two_loops_share_one_flight(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated())
    with ThreadedLoop() as owner, ThreadedLoop() as other:
        asking = [
            asyncio.run_coroutine_threadsafe(registry.report(), where.loop)
            for where in (owner, other, owner, other)
        ]
        eventually_sync(lambda: waiting(registry) == 4)
        flight = slot_of(registry).flight
        assert flight is not None
        flight.loop.call_soon_threadsafe(gated.gate.set)
        assert {row_of(future.result(10)).state for future in asking} == {"up"}
    assert gated.calls == 1


def test_when_the_owner_is_gone_another_loop_takes_its_place(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    with ThreadedLoop() as other:
        with ThreadedLoop() as owner:
            owner.report(registry)
            other.report(registry)
        other.report(registry)
        assert spy.loops == [owner.loop, owner.loop, other.loop]


def test_an_asker_elsewhere_is_answered_although_the_owner_is_blocked(
    registry: HealthRegistry,
) -> None:
    registry.register("check", LoopSpy(), timeout_seconds=SHORT)
    blocked = Blocked()
    with ThreadedLoop() as owner, ThreadedLoop() as other:
        owner.report(registry)
        owner.loop.call_soon_threadsafe(blocked)
        eventually_sync(lambda: blocked.calls == 1)
        assert kind_of(other.report(registry)) == "timeout"
        blocked.released.set()
        eventually_sync(lambda: slot_of(registry).flight is None)
        assert row_of(other.report(registry)).state == "up"


def test_an_asker_elsewhere_cuts_off_a_flight_on_the_owner(registry: HealthRegistry) -> None:
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    with ThreadedLoop() as owner, ThreadedLoop() as other:
        owner.report(registry, deadline_seconds=0)
        assert kind_of(other.report(registry)) == "timeout"
        eventually_sync(lambda: stubborn.cancellations == 1)
        owner.loop.call_soon_threadsafe(stubborn.released.set)
        eventually_sync(lambda: registry.hung_checks == 0)


def test_an_asker_is_answered_although_the_owner_closes_meanwhile(
    registry: HealthRegistry,
) -> None:
    gated = registry.register("check", Gated(), timeout_seconds=10 * SHORT)
    with ThreadedLoop() as other:
        owner = ThreadedLoop()
        with owner:
            owner.report(registry, deadline_seconds=0)
            asking = asyncio.run_coroutine_threadsafe(registry.report(), other.loop)
            eventually_sync(lambda: waiting(registry) == 1)
        assert kind_of(asking.result(10)) == "timeout"
        gated.gate = asyncio.Event()
        gated.gate.set()
        assert row_of(other.report(registry)).state == "up"


def test_what_is_decided_before_its_asker_can_wait_is_not_waited_for(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told())
    slow = registry.register("slow", Gated())
    loop = PromptLoop()
    with ThreadedLoop() as other, ThreadedLoop(loop) as owner:
        owner.report(registry, deadline_seconds=0)
        owner.loop.call_soon_threadsafe(slow.gate.set)
        eventually_sync(lambda: slot_of(registry, "slow").flight is None)
        owner.loop.call_soon_threadsafe(slow.gate.clear)
        loop.prompt = True
        asking = asyncio.run_coroutine_threadsafe(registry.report(), other.loop)
        eventually_sync(lambda: waiting(registry, "slow") == 1)
        assert waiting(registry) == 0
        loop.prompt = False
        owner.loop.call_soon_threadsafe(slow.gate.set)
        assert [row.state for row in asking.result(10).components] == ["up", "up"]


def test_an_owner_that_closes_at_the_last_moment_is_found_out_by_the_next_asker(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(), timeout_seconds=SHORT)
    with ThreadedLoop() as other:
        loop = ClosingLoop()
        with ThreadedLoop(loop) as owner:
            owner.report(registry)
            loop.closing = True
            assert kind_of(other.report(registry)) == "timeout"
            loop.closing = False
        assert row_of(other.report(registry)).state == "up"


# --- without a loop


def test_report_sync_needs_no_loop() -> None:
    registry = HealthRegistry(own_loop=True)
    spy = registry.register("check", LoopSpy())
    registry.register("sync", lambda: True)
    report = registry.report_sync()
    assert [row.state for row in report.components] == ["up", "up"]
    registry.report_sync(probe="ready", max_age_seconds=0, deadline_seconds=5)
    assert len(set(spy.loops)) == 1


async def test_report_sync_is_refused_where_a_loop_runs(registry: HealthRegistry) -> None:
    with pytest.raises(BlockingCallError, match=r"await registry\.report\(\)"):
        registry.report_sync()


async def test_report_sync_on_a_thread_asks_on_the_applications_loop(
    registry: HealthRegistry,
) -> None:
    spy = registry.register("check", LoopSpy())
    await registry.report()
    await asyncio.to_thread(registry.report_sync)
    assert set(spy.loops) == {asyncio.get_running_loop()}


def test_the_loop_of_report_sync_is_never_the_owner(registry: HealthRegistry) -> None:
    spy = registry.register("check", LoopSpy())
    registry.report_sync()
    with ThreadedLoop() as application:
        application.report(registry)
        registry.report_sync()
        assert spy.loops == [application.loop, application.loop]


def test_report_sync_on_many_threads_shares_one_flight(registry: HealthRegistry) -> None:
    blocked = registry.register("check", Blocked())
    askers = [Asker(registry) for _ in range(20)]
    eventually_sync(lambda: waiting(registry) == 20)
    blocked.released.set()
    for asker in askers:
        asker.join(10)
    assert {asker.answer and row_of(asker.answer).state for asker in askers} == {"up"}
    assert blocked.calls == 1


def test_report_sync_raises_what_report_raises(registry: HealthRegistry) -> None:
    with pytest.raises(InvalidOptionError):
        registry.report_sync(max_age_seconds=-1)


def test_report_sync_bounds_a_check_that_hangs() -> None:
    registry = HealthRegistry(own_loop=True)
    stubborn = registry.register("check", Stubborn(), timeout_seconds=SHORT)
    assert [kind_of(registry.report_sync()) for _ in range(2)] == ["timeout", "hung"]
    flight = slot_of(registry).flight
    assert flight is not None
    flight.loop.call_soon_threadsafe(stubborn.released.set)
    eventually_sync(lambda: registry.hung_checks == 0)


def test_an_asker_on_a_loop_that_was_closed_breaks_no_later_report() -> None:
    registry = HealthRegistry()
    gated = registry.register("check", Gated())
    abandoned = asyncio.new_event_loop()
    asker = abandoned.create_task(registry.report())
    abandoned.run_until_complete(asyncio.sleep(0))
    assert waiting(registry) == 1
    for task in asyncio.all_tasks(abandoned):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    abandoned.close()
    gated.gate = asyncio.Event()
    gated.gate.set()
    assert row_of(asyncio.run(registry.report())).state == "up"
    assert not asker.done()


def test_a_flight_that_was_decided_before_its_loop_got_to_it_is_never_flown() -> None:
    registry = HealthRegistry()
    gated = registry.register("check", Gated(), timeout_seconds=SHORT)
    blocked = Blocked()
    with ThreadedLoop() as owner, ThreadedLoop() as other:
        owner.loop.call_soon_threadsafe(gated.gate.set)
        owner.report(registry)
        owner.loop.call_soon_threadsafe(gated.gate.clear)
        owner.loop.call_soon_threadsafe(blocked)
        eventually_sync(lambda: blocked.calls == 1)
        assert kind_of(other.report(registry)) == "timeout"
        blocked.released.set()
        eventually_sync(lambda: registry.hung_checks == 0)
        assert gated.calls == 1
