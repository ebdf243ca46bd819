"""Who sees everything: whoever has the token, whom the authorizer lets in, and nobody else."""

from __future__ import annotations

import asyncio
import gc
import hmac
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import NoReturn, cast

import pytest

from cqrs_ddd_health import (
    HealthRegistry,
    HealthServer,
    HealthSettings,
    InvalidOptionError,
    SettingsError,
)
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.web import authorization
from cqrs_ddd_health.web.asgi import Authorizer, HealthApp, Scope, health_app
from tests.core.actors import Told, eventually, log_is_written
from tests.core.asgi_client import request

TOKEN = "A-token.that_is~long+enough/=="
WORDS = "the words of the failure"
DETAILED = ["/report", "/report/check", "/page"]


def app_of(
    authorizer: Authorizer | None = None,
    *,
    detail: Detail = "authorized",
    token: str | None = None,
    deadline_seconds: float = 0.8,
    max_age_seconds: float = 0.0,
) -> HealthApp:
    """Return the application of one check, whose words are for whoever is let in."""
    settings = HealthSettings.model_validate(
        {
            "detail": detail,
            "bearer_token": token,
            "http_deadline_seconds": deadline_seconds,
            "http_max_age_seconds": max_age_seconds,
        }
    )
    registry = HealthRegistry(settings=settings)
    registry.register("check", Told(OSError(WORDS)))
    return health_app(registry, authorizer=authorizer)


async def is_let_in(app: HealthApp, path: str = "/report", **headers: str) -> bool:
    return WORDS in (await request(app, f"/health{path}", headers=headers)).text


def yes(scope: Scope) -> bool:
    return True


# --- the token


@pytest.mark.parametrize("path", DETAILED)
async def test_whoever_has_the_token_sees_everything_and_nobody_else(path: str) -> None:
    app = app_of(token=TOKEN)
    assert await is_let_in(app, path, authorization=f"Bearer {TOKEN}")
    assert not await is_let_in(app, path)
    for wrong in (TOKEN[:-1], f"{TOKEN}=", TOKEN.lower(), "", "x" * 100_000, "\xff"):
        assert not await is_let_in(app, path, authorization=f"Bearer {wrong}")
    assert not await is_let_in(app, path, authorization=f"Basic {TOKEN}")


async def test_a_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append((given, known))
        return given == known

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert await is_let_in(app_of(token=TOKEN), authorization=f"Bearer {TOKEN}")
    assert compared == [(TOKEN.encode(), TOKEN.encode())]


async def test_a_token_and_an_authorizer_each_let_in() -> None:
    app = app_of(
        lambda scope: (b"x-role", b"ops") in cast("list[object]", scope["headers"]), token=TOKEN
    )
    assert await is_let_in(app, authorization=f"Bearer {TOKEN}")
    assert await is_let_in(app, **{"x-role": "ops"})
    assert not await is_let_in(app, authorization="Bearer x")


# --- the authorizer


class Asked:
    """An async authorizer as an object, and what it was asked about."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope) -> bool:
        self.scopes.append(scope)
        return True


async def async_yes(scope: Scope) -> bool:
    return True


def returning_an_awaitable(scope: Scope) -> Awaitable[bool]:
    return async_yes(scope)


@pytest.mark.parametrize(
    "authorizer",
    [yes, async_yes, Asked(), partial(async_yes), partial(yes), returning_an_awaitable],
    ids=["sync", "async", "object", "partial of async", "partial", "returns an awaitable"],
)
async def test_an_authorizer_may_be_sync_or_async(authorizer: Authorizer) -> None:
    assert await is_let_in(app_of(authorizer))


async def test_it_is_asked_about_the_request_and_about_each_one() -> None:
    asked = Asked()
    app = app_of(asked, max_age_seconds=60)
    for _ in range(3):
        assert await is_let_in(app, **{"x-user": "me"})
    assert len(asked.scopes) == 3
    assert asked.scopes[0]["path"] == "/health/report"
    assert (b"x-user", b"me") in cast("list[object]", asked.scopes[0]["headers"])


@pytest.mark.parametrize("path", ["", "/live", "/ready", "/startup", "/nothing", "/report?", "/x"])
async def test_the_paths_that_show_nothing_more_never_ask_it(path: str) -> None:
    asked = Asked()
    await request(app_of(asked), f"/health{path}", headers={"authorization": "Bearer x"})
    assert asked.scopes == []


@pytest.mark.parametrize("detail", ["minimal", "safe", "full"])
async def test_where_all_see_the_same_nobody_is_asked(detail: Detail) -> None:
    asked = Asked()
    app = app_of(asked, detail=detail, token=TOKEN)
    let_in = await is_let_in(app, authorization=f"Bearer {TOKEN}")
    assert (let_in, asked.scopes) == (detail == "full", [])


async def test_a_method_that_is_not_allowed_asks_nobody() -> None:
    asked = Asked()
    assert (await request(app_of(asked), "/health/report", "POST")).code == 405
    assert asked.scopes == []


def raising(error: BaseException) -> Callable[[Scope], NoReturn]:
    def authorizer(scope: Scope) -> NoReturn:
        raise error

    return authorizer


def async_raising(error: BaseException) -> Callable[[Scope], Awaitable[bool]]:
    async def authorizer(scope: Scope) -> bool:
        await asyncio.sleep(0)
        raise error

    return authorizer


@pytest.mark.parametrize("make", [raising, async_raising])
@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(3), asyncio.CancelledError(), TimeoutError(), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_raises_means_no(
    make: Callable[[BaseException], Authorizer], error: BaseException
) -> None:
    app = app_of(make(error))
    answer = await request(app, "/health/report")
    assert answer.code == 503
    assert WORDS not in answer.text
    assert await is_let_in(app) is False  # the loop lives


@pytest.mark.parametrize("given", [1, "yes", object(), None, 0, [True], "", b"True", 1.0])
async def test_only_true_lets_in(given: object) -> None:
    async def in_time(scope: Scope) -> bool:
        return cast("bool", given)

    assert not await is_let_in(app_of(lambda scope: cast("bool", given)))
    assert not await is_let_in(app_of(in_time))


async def test_one_that_takes_longer_than_the_deadline_means_no() -> None:
    ended: list[str] = []

    async def slow(scope: Scope) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return True

    assert not await is_let_in(app_of(slow, deadline_seconds=0.02))
    await eventually(lambda: ended == ["cancelled"])


def stubborn_until(released: asyncio.Event) -> Callable[[Scope], Awaitable[bool]]:
    """An authorizer that ignores its cancellation until then."""

    async def stubborn(scope: Scope) -> bool:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()
        return True

    return stubborn


async def test_one_that_ignores_its_cancellation_holds_up_nobody() -> None:
    released = asyncio.Event()
    app = app_of(stubborn_until(released), deadline_seconds=0.02)
    assert not await is_let_in(app)
    doorkeeper = app._responder._doorkeeper
    assert doorkeeper is not None
    assert len(doorkeeper._asked) == 1
    released.set()
    await eventually(lambda: not doorkeeper._asked)


async def test_those_that_never_end_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authorization, "MAX_WAITING", 3)
    released = asyncio.Event()
    app = app_of(stubborn_until(released), deadline_seconds=0.01)
    for _ in range(10):
        assert not await is_let_in(app)
    doorkeeper = app._responder._doorkeeper
    assert doorkeeper is not None
    assert len(doorkeeper._asked) == len(doorkeeper._overdue) == 3
    log_is_written()
    assert "too many calls of it do not end" in caplog.text
    released.set()
    await eventually(lambda: not doorkeeper._asked and not doorkeeper._overdue)


class Odd(BaseException):
    """No exception of the usual kind."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd, asyncio.CancelledError])
@pytest.mark.parametrize("is_sync", [True, False])
async def test_whatever_one_raises_the_loop_lives(
    error: type[BaseException], is_sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(scope: Scope) -> bool:
        raise error("secret")

    async def raising_later(scope: Scope) -> bool:
        raise error("secret")

    app = app_of(raising if is_sync else raising_later)
    assert not await is_let_in(app)
    assert (await request(app, "/health/live")).code == 200
    assert "secret" not in caplog.text


def test_ctrl_c_in_one_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(scope: Scope) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(authorization, "is_ctrl_c", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(is_let_in(app_of(interrupted)))


async def test_what_one_raises_after_its_time_is_logged_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def late(scope: Scope) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            raise Odd("secret")

    assert not await is_let_in(app_of(late, deadline_seconds=0.01))
    await asyncio.sleep(0)
    gc.collect()
    assert "secret" not in caplog.text


async def test_its_complaints_are_few_and_raise_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[object] = []

    def fail(_: str, why: object, *, exc_info: object) -> None:
        said.append(why)
        raise OSError("no log today")

    monkeypatch.setattr("cqrs_ddd_health.runtime.readers._logger.warning", fail)
    kinds = iter([type(f"Error{number}", (Exception,), {}) for number in range(30)] * 2)

    def raising(scope: Scope) -> bool:
        raise next(kinds)

    app = app_of(raising)
    for _ in range(60):
        assert not await is_let_in(app)
    log_is_written()
    assert said == [f"Error{number}" for number in range(authorization.MAX_COMPLAINTS)]


async def test_a_sync_one_does_not_block_the_loop() -> None:
    release = threading.Event()

    def blocking(scope: Scope) -> bool:
        return release.wait(20)

    app = app_of(blocking, deadline_seconds=10)
    asker = asyncio.create_task(is_let_in(app))
    assert (await request(app, "/health/live")).code == 200
    assert not asker.done()
    release.set()
    assert await asker


async def test_sync_ones_that_hang_take_no_thread_from_the_checks() -> None:
    release = threading.Event()
    app = app_of(lambda scope: release.wait(20), deadline_seconds=0.05)
    askers = [is_let_in(app) for _ in range(authorization.MAX_THREADS + 10)]
    assert set(await asyncio.gather(*askers)) == {False}
    assert authorization._threads._running <= authorization.MAX_THREADS
    assert (await request(app, "/health/ready")).code == 503  # which ran the check, on a thread
    release.set()
    await eventually(lambda: authorization._threads._running == 0)


async def test_nor_does_what_waits_for_their_threads_pile_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authorization, "MAX_WAITING", 5)
    release = threading.Event()
    app = app_of(lambda scope: release.wait(20), deadline_seconds=0.05)
    askers = [is_let_in(app) for _ in range(authorization.MAX_THREADS + 50)]
    assert set(await asyncio.gather(*askers)) == {False}
    assert authorization._threads.waiting == 5
    log_is_written()
    assert "says nothing: too many wait for it" in caplog.text
    release.set()
    await eventually(lambda: authorization._threads._running == 0)


_user: ContextVar[str] = ContextVar("user", default="nobody")


async def test_it_runs_in_the_context_of_the_request() -> None:
    def is_me(scope: Scope) -> bool:
        return _user.get() == "me"

    app = app_of(is_me)
    assert not await is_let_in(app)
    _user.set("me")
    assert await is_let_in(app)


async def test_an_asker_who_hangs_up_is_cancelled_and_so_is_the_authorizer() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope) -> bool:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return True

    asker = asyncio.create_task(is_let_in(app_of(slow, deadline_seconds=20)))
    await begun.wait()
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    await ended.wait()


async def test_the_report_is_made_while_the_authorizer_thinks() -> None:
    asked = asyncio.Event()

    async def after_the_check(scope: Scope) -> bool:
        await asked.wait()
        return True

    async def check() -> bool:
        asked.set()
        raise OSError(WORDS)

    app = app_of(after_the_check, deadline_seconds=10)
    app._registry.register("check", check)
    assert await is_let_in(app)


# --- what is said of it


async def test_that_it_fails_is_logged_once_and_without_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "cqrs_ddd_health"):
        app = app_of(raising(ValueError("a secret of the user's")))
        for _ in range(3):
            await is_let_in(app)
        await is_let_in(app_of(async_raising(KeyError("secret")), deadline_seconds=5))
        log_is_written()
    said = [record.getMessage() for record in caplog.records if "authorizer" in record.getMessage()]
    assert said == [
        "the authorizer of the health paths says nothing: ValueError",
        "the authorizer of the health paths says nothing: KeyError",
    ]


async def test_that_it_is_slow_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def slow(scope: Scope) -> bool:
        await asyncio.Event().wait()
        return True

    with caplog.at_level(logging.INFO, "cqrs_ddd_health"):
        await is_let_in(app_of(slow, deadline_seconds=0.01))
        log_is_written()
    assert "says nothing: it took too long" in caplog.text


# --- what makes no sense


@pytest.mark.parametrize("make", [health_app, HealthServer])
def test_authorized_without_anything_to_decide_by_is_refused_at_once(
    make: Callable[[HealthRegistry], object],
) -> None:
    registry = HealthRegistry(settings=HealthSettings(detail="authorized"))
    with pytest.raises(SettingsError, match="set CQRS_HEALTH_BEARER_TOKEN, or give an authorizer"):
        make(registry)


@pytest.mark.parametrize("detail", ["safe", "authorized"])
def test_an_authorizer_that_cannot_be_called_is_refused(detail: Detail) -> None:
    registry = HealthRegistry(settings=HealthSettings(detail=detail))
    with pytest.raises(InvalidOptionError, match=r"authorizer must be callable .* got str"):
        health_app(registry, authorizer=cast("Authorizer", "yes"))
