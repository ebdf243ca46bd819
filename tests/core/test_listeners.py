"""Those who want to know of transitions, and what none of them can break."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextvars import Context

import pytest

from cqrs_ddd_health import HealthRegistry, InvalidOptionError, Transition
from cqrs_ddd_health.engine.listeners import Listeners
from cqrs_ddd_health.runtime.readers import MAX_WAITING
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import Gated, Told, eventually, row_of, waiting


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry(60, clock=FakeClock())


def transition(number: int = 0) -> Transition:
    return Transition(
        name=f"check {number}",
        kind="check",
        before=None,
        after="up",
        at=FakeClock().now(),
        failure=None,
    )


async def test_a_listener_is_told_of_each_transition_in_order(registry: HealthRegistry) -> None:
    told: list[Transition] = []
    registry.add_listener(told.append)
    check = registry.register("check", Told())
    for outcome in (True, True, False, False, True):
        check.outcome = outcome
        await registry.report()
    await eventually(lambda: len(told) == 3)
    assert [(one.name, one.kind, one.before, one.after) for one in told] == [
        ("check", "check", None, "up"),
        ("check", "check", "up", "down"),
        ("check", "check", "down", "up"),
    ]
    assert [one.failure and one.failure.kind for one in told] == [None, "falsy", None]


async def test_a_listener_is_told_of_workers(registry: HealthRegistry) -> None:
    told: list[Transition] = []
    registry.add_listener(told.append)
    registry.expect("worker")
    await registry.report()
    registry.heartbeat("worker")
    await registry.report()
    await registry.report()
    await eventually(lambda: len(told) == 2)
    assert [(one.kind, one.before, one.after) for one in told] == [
        ("worker", None, "down"),
        ("worker", "down", "up"),
    ]


async def test_a_listener_that_raises_is_logged_and_told_the_rest(
    registry: HealthRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def listener(transition: Transition) -> None:
        told.append(transition.name)
        raise SystemExit if transition.name == "first" else ValueError

    registry.add_listener(listener)
    for name in ("first", "second", "third"):
        registry.register(name, Told())
    with caplog.at_level(logging.WARNING, "cqrs_ddd_health"):
        await registry.report()
        await eventually(lambda: len(caplog.records) == 3)
    assert told == ["first", "second", "third"]
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "SystemExit",
        "ValueError",
        "ValueError",
    ]
    assert not any(record.exc_info for record in caplog.records)  # it might hold a secret


async def test_a_log_that_fails_makes_no_listener_deaf(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def listener(transition: Transition) -> None:
        told.append(transition.name)
        raise ValueError

    def fail(*_: object, **__: object) -> None:
        raise OSError("no log today")

    monkeypatch.setattr("cqrs_ddd_health.runtime.readers._logger.warning", fail)
    registry.add_listener(listener)
    for name in ("first", "second"):
        registry.register(name, Told())
        await registry.report()
        await eventually(lambda: len(told) == len(registry.names))


async def test_a_listener_that_hangs_holds_up_nobody(registry: HealthRegistry) -> None:
    release, told = threading.Event(), list[Transition]()
    registry.add_listener(lambda _transition: void(release.wait()))
    registry.add_listener(told.append)
    check = registry.register("check", Told())
    await registry.report()
    check.outcome = False
    assert row_of(await registry.report()).state == "down"
    await eventually(lambda: len(told) == 2)
    release.set()


def void(_value: object) -> None:
    return None


async def test_what_waits_for_a_listener_that_hangs_is_bounded_and_counted() -> None:
    listeners, release, told = Listeners(), threading.Event(), list[str]()
    begun = threading.Event()

    def hangs(transition: Transition) -> None:
        begun.set()
        release.wait()
        told.append(transition.name)

    listeners.add(hangs)
    listeners.tell(transition(0), Context())
    await eventually(begun.is_set)
    for number in range(1, MAX_WAITING + 6):
        listeners.tell(transition(number), Context())
    assert listeners.dropped == 5
    release.set()
    await eventually(lambda: len(told) == MAX_WAITING + 1)
    assert (told[0], told[1], told[-1]) == ("check 0", "check 6", f"check {MAX_WAITING + 5}")


async def test_a_thread_that_a_listener_cannot_have_keeps_nobody_waiting(
    registry: HealthRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Transition] = []
    registry.add_listener(told.append)
    check = registry.register("check", Told())

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        async with asyncio.timeout(10):
            assert row_of(await registry.report()).state == "up"
    check.outcome = False
    await registry.report()
    await eventually(lambda: [one.after for one in told] == ["up", "down"])


async def test_a_listener_that_is_removed_is_told_no_more(registry: HealthRegistry) -> None:
    told: list[Transition] = []
    kept: list[Transition] = []
    registry.add_listener(told.append)
    registry.add_listener(kept.append)
    registry.remove_listener(told.append)
    registry.remove_listener(told.append)
    registry.register("check", Told())
    await registry.report()
    await eventually(lambda: len(kept) == 1)
    assert told == []


def test_a_listener_that_cannot_be_called_is_refused(registry: HealthRegistry) -> None:
    with pytest.raises(InvalidOptionError, match="callable, got str"):
        registry.add_listener("not callable")  # type: ignore[arg-type]


async def test_listeners_hear_nothing_of_a_check_that_was_unregistered() -> None:
    registry = HealthRegistry()
    told: list[Transition] = []
    registry.add_listener(told.append)
    gated = registry.register("check", Gated())
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    registry.unregister("check")
    gated.gate.set()
    await asker
    registry.register("other", Told())
    await registry.report()
    await eventually(lambda: bool(told) and told[-1].name == "other")
    assert [transition.name for transition in told] == ["other"]
