"""What is made once for all who want it: whatever becomes of the making, nobody waits for ever."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from cqrs_ddd_health import CheckSettings, HealthRegistry, HealthSettings
from cqrs_ddd_health.runtime.loop_local import PerLoop
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.cache import Answers, Prepared
from tests.core.actors import PATIENCE_SECONDS, Gated, Told, eventually, row_of, waiting
from tests.core.asgi_client import request

ANSWER = "cqrs-health answer"


def tasks_named(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


def answers() -> Answers[str]:
    return Answers(lambda: 0)


class Maker:
    """Makes an answer when its gate is open, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.fresh_until = 1e12

    async def __call__(self) -> Prepared[str]:
        self.calls += 1
        await self.gate.wait()
        return Prepared("made", self.fresh_until)


# --- prepared answers


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_making_that_was_cancelled_leaves_nobody_waiting(steps: int) -> None:
    made, maker = answers(), Maker()
    askers = [asyncio.create_task(made.made("key", maker)) for _ in range(3)]
    await asyncio.sleep(0)
    (making,) = tasks_named(ANSWER)
    for _ in range(steps):
        await asyncio.sleep(0)
    making.cancel()
    maker.gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert {answer.value for answer in await asyncio.gather(*askers)} == {"made"}
        assert (await made.made("key", maker)).value == "made"
    assert tasks_named(ANSWER) == []


async def test_the_first_who_asks_may_leave_at_once() -> None:
    made, maker = answers(), Maker()
    first = asyncio.create_task(made.made("key", maker))
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(made.made("key", maker))
    await asyncio.sleep(0)
    maker.gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await second).value == "made"
    assert (first.cancelled(), maker.calls) == (True, 1)


async def test_who_is_cancelled_while_it_makes_for_itself_is_cancelled() -> None:
    made, maker = answers(), Maker()
    asker = asyncio.create_task(made.made("key", maker))
    await asyncio.sleep(0)
    tasks_named(ANSWER)[0].cancel()
    await eventually(lambda: maker.calls == 1)
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker


async def test_what_the_making_raises_is_raised_at_all_who_wait_and_tried_again() -> None:
    made = answers()

    async def fails() -> Prepared[str]:
        raise OSError("not now")

    gathered = await asyncio.gather(
        *(made.made("key", fails) for _ in range(2)), return_exceptions=True
    )
    assert [type(error) for error in gathered] == [OSError, OSError]
    maker = Maker()
    maker.gate.set()
    assert (await made.made("key", maker)).value == "made"


def two_arguments(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
) -> asyncio.Task[Any]:
    """A factory of tasks as they were before there were contexts."""
    assert asyncio.iscoroutine(coroutine)
    return asyncio.Task(coroutine, loop=loop)


async def test_the_applications_factory_of_tasks_makes_no_answer() -> None:
    loop = asyncio.get_running_loop()
    app = health_app(HealthRegistry())
    factories: list[Any] = [two_arguments]
    if sys.version_info >= (3, 12):
        factories.append(asyncio.eager_task_factory)
    for factory in factories:
        loop.set_task_factory(factory)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for path in ("/health", "/health/report", "/health/page"):
                assert (await request(app, path)).code == 200
    loop.set_task_factory(None)


# --- flights


@pytest.mark.parametrize("steps", [0, 1])
async def test_the_first_asker_of_a_check_may_leave_before_it_is_begun(steps: int) -> None:
    registry = HealthRegistry()
    gated = registry.register("check", Gated())
    first = asyncio.create_task(registry.report())
    for _ in range(steps):
        await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(registry.report())
    await asyncio.wait({first})
    await eventually(lambda: waiting(registry) == 1)
    gated.gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert row_of(await second).state == "up"
    assert gated.calls == 1


async def test_a_run_that_was_cancelled_before_it_was_begun_is_made_anew() -> None:
    registry = HealthRegistry()
    check = registry.register("check", Told())
    asker = asyncio.create_task(registry.report(deadline_seconds=0))
    await asyncio.sleep(0)
    for task in tasks_named("cqrs-health check check"):
        task.cancel()
    await asker
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert row_of(await registry.report()).state == "up"
    assert check.calls >= 1


async def test_runs_that_never_begin_since_another_was_interrupted_are_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = HealthRegistry()
    checks = {name: registry.register(name, Told()) for name in ("first", "second", "third")}

    def interrupted(coroutine: Coroutine[Any, Any, None], **keywords: Any) -> asyncio.Task[None]:
        if keywords["name"].endswith("second"):
            coroutine.close()
            raise KeyboardInterrupt
        return asyncio.Task(coroutine, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("cqrs_ddd_health.engine.runner.Task", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await registry.report()
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await registry.report()
    assert [row.state for row in report.components] == ["up", "up", "up"]
    assert (checks["second"].calls, checks["third"].calls) == (1, 1)


# --- clients


class Opener:
    """Opens clients when its gate is open, and counts."""

    def __init__(self) -> None:
        self.opened = 0
        self.gate = asyncio.Event()
        self.clients: PerLoop[int] = PerLoop(self.open, self.close)

    async def open(self) -> int:
        self.opened += 1
        number = self.opened
        await self.gate.wait()
        return number

    async def close(self, client: int) -> None: ...


async def test_of_several_who_want_a_client_one_opens_it() -> None:
    opener = Opener()
    wanting = [asyncio.create_task(opener.clients.get()) for _ in range(5)]
    await eventually(lambda: opener.opened == 1)
    opener.gate.set()
    assert await asyncio.gather(*wanting) == [1] * 5
    assert await opener.clients.get() == 1


async def test_when_who_opens_a_client_is_cancelled_the_next_one_opens_it() -> None:
    opener = Opener()
    wanting = [asyncio.create_task(opener.clients.get()) for _ in range(3)]
    await eventually(lambda: opener.opened == 1)
    wanting[0].cancel()
    await eventually(lambda: opener.opened == 2)
    opener.gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asyncio.gather(*wanting[1:]) == [2, 2]
    assert wanting[0].cancelled()


# --- checks of the settings


def test_threads_that_register_from_the_settings_at_a_time_make_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, made = threading.Event(), list[str]()

    def slow(url: str) -> Told:
        made.append(url)
        both.wait(0.05)  # so that the other one comes meanwhile
        return Told()

    monkeypatch.setattr("cqrs_ddd_health.checks.from_url.check_from_url", slow)
    said = CheckSettings.model_validate({"url": "disk:///"}, strict=False)
    registry = HealthRegistry(settings=HealthSettings(checks={"disk": said}))
    names: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(target=lambda: names.append(registry.register_from_settings()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == [(), ("disk",)]
    assert len(made) == 1
