"""Background refresh: each check at its own pace, whoever asks, and nothing left at the end."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import threading
from collections.abc import Callable, Coroutine
from typing import cast

import pytest

from cqrs_ddd_health import (
    CheckOptions,
    CheckResult,
    HealthRegistry,
    HealthSettings,
    InvalidOptionError,
    MemoryHeartbeatStore,
)
from cqrs_ddd_health.checks.connected import ConnectedCheck, ConnectedClient
from cqrs_ddd_health.engine.scheduler import Pace, Refresher
from cqrs_ddd_health.testing import FakeCheck, FakeClock
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import (
    PATIENCE_SECONDS,
    Gated,
    Stubborn,
    ThreadedLoop,
    Told,
    eventually,
    kind_of,
    log_is_written,
    row_of,
)
from tests.core.asgi_client import request
from tests.core.virtual_time import VirtualLoop, run

DOWN = CheckResult(state="down")


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry()


class Timed(FakeCheck):
    """Notes when it was asked, by the loop's time."""

    def __init__(self, result: CheckResult | None = None, *, takes: float = 0.0) -> None:
        super().__init__(result)
        self.times: list[float] = []
        self.takes = takes

    async def check(self) -> CheckResult:
        self.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        return await super().check()

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]


def in_virtual_time(test: Callable[[HealthRegistry], Coroutine[object, object, None]]) -> None:
    loop = VirtualLoop()
    run(test(HealthRegistry(clock=loop)), loop)


def refreshing(registry: HealthRegistry) -> bool:
    return registry.refreshing


def ours(loop: asyncio.AbstractEventLoop | None = None) -> list[str]:
    names = [task.get_name() for task in asyncio.all_tasks(loop)]
    return [name for name in names if name.startswith("cqrs-health")]


# --- the pace


def test_each_check_is_asked_at_its_interval_give_or_take_ten_percent() -> None:
    async def test(registry: HealthRegistry) -> None:
        slow, quick = Timed(), Timed()
        registry.register("slow", slow)
        registry.register("quick", quick, options=CheckOptions(interval_seconds=1))
        async with registry.running():
            await asyncio.sleep(2_000)
        assert all(8.9 <= pause <= 11.1 for pause in slow.pauses)
        assert all(0.8 <= pause <= 1.2 for pause in quick.pauses)
        assert statistics.stdev(slow.pauses) > 0.3  # they do vary
        assert statistics.mean(slow.pauses) == pytest.approx(10, abs=0.3)
        assert statistics.mean(quick.pauses) == pytest.approx(1, abs=0.05)

    in_virtual_time(test)


def test_the_first_run_falls_anywhere_within_the_interval() -> None:
    async def test(registry: HealthRegistry) -> None:
        checks = [registry.register(f"check {number}", Timed()) for number in range(200)]
        async with registry.running():
            await asyncio.sleep(10)
        firsts = sorted(check.times[0] for check in checks)
        assert firsts[20] < 3
        assert firsts[100] == pytest.approx(5, abs=2)
        assert firsts[180] > 7

    in_virtual_time(test)


def test_an_initial_delay_is_kept() -> None:
    async def test(registry: HealthRegistry) -> None:
        at_once = registry.register(
            "at once", Timed(), options=CheckOptions(initial_delay_seconds=0)
        )
        later = registry.register("later", Timed(), options=CheckOptions(initial_delay_seconds=25))
        async with registry.running():
            await asyncio.sleep(40)
        assert at_once.times[0] == 0
        assert later.times[0] == pytest.approx(25, abs=0.1)
        assert len(later.times) == 2

    in_virtual_time(test)


def test_what_is_down_is_asked_less_often_and_as_often_as_before_once_it_is_up() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed(DOWN))
        async with registry.running():
            await asyncio.sleep(1_000)
            assert all(26.9 <= pause <= 33.1 for pause in check.pauses)
            check.result = CheckResult()
            seen = len(check.times)
            await asyncio.sleep(100)
        # One run finds out that it is up; from then on the pauses are short.
        assert all(8.9 <= pause <= 11.1 for pause in check.pauses[seen + 1 :])
        assert len(check.pauses[seen + 1 :]) >= 5

    in_virtual_time(test)


def test_thresholds_count_the_runs_of_the_refresh_both_ways() -> None:
    async def test(registry: HealthRegistry) -> None:
        options = CheckOptions(
            failure_threshold=3,
            success_threshold=2,
            interval_seconds=1,
            down_interval_seconds=1,
            initial_delay_seconds=0,
        )
        check = registry.register("check", Timed(DOWN), options=options)
        states: list[str] = []
        async with registry.running():
            for result in [DOWN] * 3 + [CheckResult()] * 3:
                check.result = result
                seen = check.calls
                while check.calls == seen:
                    await asyncio.sleep(0.1)
                report = await registry.report(refreshed=True)
                states.append(row_of(report).state)
        assert states == ["degraded", "degraded", "down", "down", "up", "up"]

    in_virtual_time(test)


def test_a_run_that_takes_longer_than_its_interval_is_not_started_twice() -> None:
    async def test(registry: HealthRegistry) -> None:
        options = CheckOptions(timeout_seconds=30, interval_seconds=1, initial_delay_seconds=0)
        check = registry.register("check", Timed(takes=20), options=options)
        async with registry.running():
            await asyncio.sleep(19)
        assert check.times == [0]

    in_virtual_time(test)


def test_checks_may_come_and_go_meanwhile() -> None:
    async def test(registry: HealthRegistry) -> None:
        options = CheckOptions(interval_seconds=1)
        gone = registry.register("gone", Timed(), options=options)
        async with registry.running():
            await asyncio.sleep(10)
            registry.unregister("gone")
            late = registry.register("late", Timed(), options=options)
            seen = gone.calls
            await asyncio.sleep(10)
        assert gone.calls == seen >= 8
        assert late.calls >= 8

    in_virtual_time(test)


def test_processes_that_start_together_do_not_keep_step() -> None:
    options = CheckOptions()
    chances = itertools.cycle([0.0, 0.25, 0.5, 0.75, 1.0])
    paces = [Pace(options, 0.0, lambda: next(chances)) for _ in range(5)]
    assert [pace.due_at(down=False) for pace in paces] == [0, 2.5, 5, 7.5, 10]
    for pace in paces:
        pace.start(0.0)
    assert [pace.due_at(down=False) for pace in paces] == [9, 9.5, 10, 10.5, 11]
    assert [pace.due_at(down=True) for pace in paces] == [27, 28.5, 30, 31.5, 33]


def test_what_is_drawn_leaves_the_random_numbers_of_the_application_alone() -> None:
    random.seed(1)
    expected = random.getstate()

    async def test(registry: HealthRegistry) -> None:
        shared = HealthRegistry(heartbeat_store=MemoryHeartbeatStore())
        shared.heartbeat("worker")
        check = registry.register("check", Timed())
        async with registry.running():
            await asyncio.sleep(30)
        await shared.aclose()
        assert check.calls >= 2

    in_virtual_time(test)
    assert random.getstate() == expected


# --- who asks meanwhile


def test_nobody_who_takes_what_was_refreshed_starts_a_run() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed(takes=1))
        async with registry.running():
            await asyncio.sleep(12)
            for _ in range(100):
                seen = check.calls
                report = await registry.report(refreshed=True, deadline_seconds=0)
                assert row_of(report).state == "up"
                assert check.calls == seen
                await asyncio.sleep(1)

    in_virtual_time(test)


def test_whoever_asks_before_the_first_run_has_it_run_at_once() -> None:
    async def test(registry: HealthRegistry) -> None:
        options = CheckOptions(initial_delay_seconds=100)
        check = registry.register("check", Timed(), options=options)
        async with registry.running():
            assert row_of(await registry.report(refreshed=True)).state == "up"
        assert check.times == [0]

    in_virtual_time(test)


def test_what_was_found_before_the_first_block_was_entered_is_not_believed_in_it() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed(takes=1))
        for calls in (1, 2):
            async with registry.running():
                report = await registry.report(refreshed=True, deadline_seconds=0.5)
                assert kind_of(report) == "pending"
                await asyncio.sleep(1)
                report = await registry.report(refreshed=True, deadline_seconds=0.5)
                assert row_of(report).state == "up"
                async with registry.running():  # the first one goes on
                    report = await registry.report(refreshed=True, deadline_seconds=0.5)
                    assert row_of(report).state == "up"
            assert check.calls == calls

    in_virtual_time(test)


@pytest.mark.parametrize("path", ["/health/ready", "/health", "/health/startup", "/health/report"])
def test_an_application_that_is_started_again_answers_what_is_true_by_then(path: str) -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Told(), probes=["ready", "startup"])
        app = health_app(registry)
        for outcome, code in ((True, 200), (False, 503), (True, 200)):
            check.outcome = outcome
            async with registry.running():
                assert (await request(app, path)).code == code

    in_virtual_time(test)


async def test_what_is_too_old_by_the_wall_clock_is_asked_anew() -> None:
    clock = FakeClock()
    registry = HealthRegistry(clock=clock)
    check = registry.register("check", Told())
    async with registry.running():
        await registry.report(refreshed=True)
        clock.jump(15)
        await registry.report(refreshed=True)
        assert check.calls == 1
        check.outcome = False
        clock.jump(3_600)  # the machine slept, and the monotonic clock with it
        assert row_of(await registry.report(refreshed=True)).state == "down"
        clock.jump(-2 * 3_600)
        check.outcome = True
        assert row_of(await registry.report(refreshed=True)).state == "down"
        assert check.calls == 2


def test_without_a_refresh_whoever_asks_for_what_was_refreshed_asks_the_checks() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed())
        for _ in range(3):
            await registry.report(refreshed=True)
        async with registry.running():
            await asyncio.sleep(11)
            assert check.calls >= 4
            await registry.report()  # and so does whoever does not
            assert check.calls >= 5
        seen = check.calls
        await registry.report(refreshed=True)
        assert check.calls == seen + 1

    in_virtual_time(test)


async def test_a_refresh_that_stands_still_is_not_believed(registry: HealthRegistry) -> None:
    check = registry.register(
        "check", Told(), options=CheckOptions(timeout_seconds=0.01, interval_seconds=0.01)
    )
    with ThreadedLoop() as other:

        async def hold_up() -> None:
            async with registry.running():
                await eventually(lambda: check.calls > 0)
                held.set()
                released.wait(PATIENCE_SECONDS)  # the loop stands

        held, released = threading.Event(), threading.Event()
        holding = asyncio.run_coroutine_threadsafe(hold_up(), other.loop)
        assert await asyncio.get_running_loop().run_in_executor(None, held.wait, PATIENCE_SECONDS)
        await asyncio.sleep(0.05)
        report = await registry.report(refreshed=True, deadline_seconds=0.05)
        assert kind_of(report) == "timeout"  # it is asked on the loop that stands
        released.set()
        await asyncio.wrap_future(holding)


async def test_it_is_yes_or_no(registry: HealthRegistry) -> None:
    with pytest.raises(InvalidOptionError, match="refreshed must be True or False"):
        await registry.report(refreshed=cast("bool", 1))


def test_http_takes_what_was_refreshed() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed())
        app = health_app(registry)
        async with registry.running():
            await asyncio.sleep(12)
            for _ in range(50):
                seen = check.calls
                assert (await request(app, "/health/ready")).code == 200
                assert check.calls == seen
                await asyncio.sleep(1)

    in_virtual_time(test)


# --- its end


async def test_at_the_end_nothing_of_it_runs(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated(), options=CheckOptions(initial_delay_seconds=0))
    assert not refreshing(registry)
    async with registry.running() as the_same:
        assert the_same is registry
        await eventually(lambda: gated.calls == 1)
        assert refreshing(registry)
    assert not refreshing(registry)
    assert ours() == []
    assert registry.hung_checks == 0
    gated.gate.set()
    assert row_of(await registry.report()).state == "up"


async def test_a_run_that_somebody_waits_for_goes_on(registry: HealthRegistry) -> None:
    gated = registry.register("check", Gated(), options=CheckOptions(initial_delay_seconds=0))
    async with registry.running():
        await eventually(lambda: gated.calls == 1)
        asking = asyncio.create_task(registry.report())
        await asyncio.sleep(0)
    gated.gate.set()
    assert row_of(await asking).state == "up"
    assert gated.calls == 1


async def test_a_check_that_ignores_its_cancellation_does_not_hold_up_the_end(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cqrs_ddd_health.runtime.cancellation.PATIENCE_SECONDS", 0.01)
    stubborn = registry.register("check", Stubborn(), options=CheckOptions(initial_delay_seconds=0))
    async with registry.running():
        await eventually(lambda: stubborn.calls == 1)
    assert stubborn.cancellations == 1
    stubborn.released.set()
    await eventually(lambda: ours() == [])


async def test_it_ends_with_the_error_of_its_block_and_with_its_cancellation(
    registry: HealthRegistry,
) -> None:
    with pytest.raises(LookupError):
        async with registry.running():
            raise LookupError

    async def service() -> None:
        async with registry.running():
            await asyncio.Event().wait()

    serving = asyncio.create_task(service())
    await eventually(lambda: registry.refreshing)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert ours() == []


def test_of_several_at_a_time_one_refreshes_and_another_takes_over() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed())
        first, second = registry.running(), registry.running()
        await first.__aenter__()
        await second.__aenter__()
        await asyncio.sleep(100)
        assert 9 <= check.calls <= 12
        await first.__aexit__(None, None, None)
        seen = check.calls
        await asyncio.sleep(100)
        assert seen + 8 <= check.calls <= seen + 12
        third = registry.running()
        await third.__aenter__()
        await third.__aexit__(None, None, None)
        assert refreshing(registry)  # who never led leaves without a trace
        await second.__aexit__(None, None, None)
        assert not refreshing(registry)

    in_virtual_time(test)


def test_who_takes_over_keeps_the_pace() -> None:
    async def test(registry: HealthRegistry) -> None:
        check = registry.register("check", Timed())
        first, second = registry.running(), registry.running()
        await first.__aenter__()
        await second.__aenter__()
        for leaving in (first, second):
            await asyncio.sleep(60)
            await leaving.__aexit__(None, None, None)
        assert all(9 <= pause <= 11.5 for pause in check.pauses), check.pauses

    in_virtual_time(test)


class Lasting(FakeCheck):
    """A check of a client that is told to close."""

    closed = 0

    async def connect(self) -> ConnectedClient:
        return ConnectedClient(self, self.close)

    async def close(self) -> None:
        self.closed += 1


async def test_the_last_of_several_closes_what_was_connected() -> None:
    settings = {"checks": {"own": {"url": "tcp://127.0.0.1:1"}}}
    registry = HealthRegistry(settings=HealthSettings.model_validate(settings))
    lasting = Lasting()
    registry._engine.configured._made["own"] = ConnectedCheck(lasting.connect)
    registry.register("own", registry._engine.configured._made["own"])
    async with registry.running():
        async with registry.running():
            await registry.report()
        assert lasting.closed == 0
    assert lasting.closed == 1


async def test_a_run_on_another_loop_is_ended_too(registry: HealthRegistry) -> None:
    gated = Gated()
    registry.register("check", gated, options=CheckOptions(initial_delay_seconds=0))
    with ThreadedLoop() as other:
        home = asyncio.run_coroutine_threadsafe(registry.report(deadline_seconds=0), other.loop)
        await asyncio.wrap_future(home)
        await eventually(lambda: gated.calls == 1)
        async with registry.running():
            pass
        assert ours(other.loop) == []


async def test_a_refresh_that_fails_says_so_once_and_goes_on(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cqrs_ddd_health.engine.scheduler.IDLE_SECONDS", 0.001)
    refresher, failures = registry._engine.refresher, list[int]()
    refresh = refresher._refresh

    async def fails_at_first() -> float:
        failures.append(1)
        if len(failures) < 4:
            raise OSError("hunter2")
        return await refresh()

    monkeypatch.setattr(refresher, "_refresh", fails_at_first)
    check = registry.register("check", Timed(), options=CheckOptions(initial_delay_seconds=0))
    async with registry.running():
        await eventually(lambda: check.calls == 1)
    log_is_written()
    assert caplog.messages == ["the background refresh failed, and goes on: OSError"]
    assert "hunter2" not in caplog.text


async def test_a_server_refreshes_from_its_startup_to_its_shutdown(
    registry: HealthRegistry,
) -> None:
    app, messages = health_app(registry), asyncio.Queue[str]()
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": await messages.get()}

    async def send(message: object) -> None:
        sent.append(message)

    serving = asyncio.create_task(app({"type": "lifespan"}, receive, send))
    messages.put_nowait("lifespan.startup")
    await eventually(lambda: bool(sent))
    assert refreshing(registry)
    messages.put_nowait("lifespan.shutdown")
    await serving
    assert not refreshing(registry)
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


async def test_nothing_to_refresh_is_no_error(registry: HealthRegistry) -> None:
    async with registry.running():
        await asyncio.sleep(0)
        assert isinstance(registry._engine.refresher, Refresher)
