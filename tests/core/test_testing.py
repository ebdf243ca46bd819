"""The help for those who test what they built on the library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.testing import FakeCheck, FakeClock, clean_registry
from tests.core.actors import kind_of, row_of


def test_a_fake_clock_stands_still_until_it_is_told_to_go() -> None:
    clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    start, now = clock.monotonic(), clock.now()
    assert (clock.monotonic(), clock.now()) == (start, now)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.now()) == (start + 1.5, now + timedelta(seconds=1.5))


def test_a_fake_clock_may_be_set_back_and_time_goes_on_all_the_same() -> None:
    clock = FakeClock()
    start, now = clock.monotonic(), clock.now()
    clock.jump(-3_600)
    assert (clock.monotonic(), clock.now()) == (start, now - timedelta(hours=1))


async def test_a_fake_check_does_as_it_is_told_and_counts() -> None:
    registry = HealthRegistry()
    check = registry.register("check", FakeCheck())
    assert row_of(await registry.report()).state == "up"
    check.result = CheckResult(state="degraded")
    assert row_of(await registry.report()).state == "degraded"
    check.result = OSError("gone")
    assert kind_of(await registry.report()) == "exception"
    assert check.calls == 3
    registry.register("check", FakeCheck(ValueError()))
    assert kind_of(await registry.report()) == "exception"


def test_a_clean_registry_is_the_default_for_the_block_and_the_old_one_after_it() -> None:
    before = HealthRegistry.get_instance()
    with clean_registry() as outer:
        assert HealthRegistry.get_instance() is outer
        assert outer is not before
        outer.register("check", FakeCheck())
        with clean_registry() as inner:
            assert HealthRegistry.get_instance() is inner
            assert inner.names == ()
        assert HealthRegistry.get_instance() is outer
        assert outer.names == ("check",)
    assert HealthRegistry.get_instance() is before


def test_a_clean_registry_leaves_on_an_exception_as_well() -> None:
    before = HealthRegistry.get_instance()
    with pytest.raises(KeyError), clean_registry():
        raise KeyError
    assert HealthRegistry.get_instance() is before


def test_a_clean_registry_leaves_none_behind_where_there_was_none() -> None:
    with clean_registry():
        HealthRegistry.set_instance(None)
        with clean_registry():
            pass
        assert HealthRegistry.exchange_instance(None) is None


async def test_a_clean_registry_takes_a_timeout_and_settings() -> None:
    settings = HealthSettings(service_name="tested")
    with clean_registry(7, settings=settings) as registry:
        registry.heartbeat("worker")
        report = await registry.report()
    assert (report.service.name, report.heartbeats[0].timeout_seconds) == ("tested", 7)
