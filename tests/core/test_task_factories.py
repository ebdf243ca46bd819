"""Loops on which the application has its tasks made in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import CoroutineType
from typing import Any, NoReturn, cast

import pytest
from pydantic import SecretStr

from cqrs_ddd_health import HealthRegistry, HealthServer, HealthSettings
from cqrs_ddd_health.runtime.greenlets import Handover
from cqrs_ddd_health.runtime.loop_local import PerLoop
from cqrs_ddd_health.runtime.tasks import future_on, wait_on
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import PATIENCE_SECONDS, ThreadedLoop, eventually, eventually_sync

from .asgi_client import request

PACKAGE = "cqrs_ddd_health"


class OldFactory:
    """Takes what factories took before Python 3.11, and remembers whose coroutines it got."""

    def __init__(self) -> None:
        self.packages: list[str] = []

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]
    ) -> asyncio.Task[Any]:
        code = cast("CoroutineType[Any, Any, Any]", coro).cr_code
        self.packages += [part for part in code.co_filename.split("/") if part == PACKAGE]
        return asyncio.Task(coro, loop=loop)


def set_factory(factory: Callable[..., Any]) -> None:
    asyncio.get_running_loop().set_task_factory(cast("Any", factory))


async def quick() -> bool:
    return True


async def slow() -> bool:
    await asyncio.sleep(0)
    return True


def registry_of(settings: HealthSettings | None = None) -> HealthRegistry:
    health = HealthRegistry(settings=settings)
    health.register("quick", quick)
    health.register("slow", slow)
    health.register("sync", lambda: True)
    return health


@asynccontextmanager
async def used(health: HealthRegistry) -> AsyncGenerator[None]:
    """Do all that an application may do on its own loop."""
    async with health.running(owner=asyncio.get_running_loop()), HealthServer(health, port=0):
        assert (await health.report()).status == "healthy"
        assert (await health.check_all())["slow"] == "up"
        yield
    await health.aclose()


async def lets_in(_: object) -> bool:
    await asyncio.sleep(0)
    return True


async def test_a_factory_of_two_arguments_makes_none_of_our_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factory = OldFactory()
    set_factory(factory)
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__DISK__URL", "disk:///")
    health = registry_of(HealthSettings(detail="authorized", bearer_token=SecretStr("t" * 32)))
    health.register_from_settings()
    app = health_app(health, authorizer=lets_in)
    async with used(health):
        for path in ("/health", "/health/ready", "/health/report", "/health/page"):
            assert (await request(app, path)).code == 200
        clients = PerLoop(slow, lambda _: slow())
        assert await clients.get()
        await clients.aclose()
    assert factory.packages == []


EAGER = getattr(asyncio, "eager_task_factory", OldFactory())  # of Python 3.12


async def test_askers_at_the_same_time_are_all_answered_where_tasks_run_at_once() -> None:
    set_factory(EAGER)
    health = registry_of()
    app = health_app(health)
    async with asyncio.timeout(PATIENCE_SECONDS), used(health):
        answers = await asyncio.gather(*(request(app, "/health/report") for _ in range(20)))
        reports = await asyncio.gather(*(health.report() for _ in range(20)))
    assert {answer.code for answer in answers} == {200}
    assert {report.status for report in reports} == {"healthy"}


async def test_what_a_task_on_another_loop_does_is_told_here() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("its words")

    with ThreadedLoop() as other:
        assert await future_on(other.loop, slow(), "what")
        with pytest.raises(LookupError, match="its words"):
            await future_on(other.loop, fails(), "what")
    with pytest.raises(RuntimeError):
        await future_on(other.loop, slow(), "what")


async def test_a_task_on_another_loop_is_cancelled_with_who_waits_here() -> None:
    with ThreadedLoop() as other:
        for cancels_here in (True, False):
            answer = future_on(other.loop, asyncio.sleep(60), "long")
            await eventually(lambda: len(asyncio.all_tasks(other.loop)) == 1)
            (task,) = asyncio.all_tasks(other.loop)
            if cancels_here:
                answer.cancel()
            else:
                other.loop.call_soon_threadsafe(task.cancel)
            await eventually(task.cancelled)
            await eventually(answer.cancelled)


def test_an_answer_to_a_loop_that_is_closed_is_let_go() -> None:
    asked: list[asyncio.Future[None]] = []
    with ThreadedLoop() as other:

        async def leave_behind() -> asyncio.Task[Any]:
            asked.append(future_on(other.loop, asyncio.sleep(60), "long"))
            await eventually(lambda: len(asyncio.all_tasks(other.loop)) == 1)
            (task,) = asyncio.all_tasks(other.loop)
            return task

        task = asyncio.run(leave_behind())
        other.loop.call_soon_threadsafe(task.cancel)
        eventually_sync(task.cancelled)
        eventually_sync(lambda: not asyncio.all_tasks(other.loop))
    with pytest.raises(RuntimeError):
        wait_on(other.loop, slow(), "what")


def test_who_waits_in_vain_for_a_loop_leaves_nothing_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Handover, "take", interrupted)
    with ThreadedLoop() as other:
        with pytest.raises(KeyboardInterrupt):
            wait_on(other.loop, asyncio.sleep(60), "long")
        eventually_sync(lambda: not asyncio.all_tasks(other.loop))
