"""The registry: names, options, selections, workers, and the contract's dicts."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta

import pytest

from cqrs_ddd_health import (
    CheckOptions,
    CheckResult,
    CheckSettings,
    DuplicateNameError,
    HealthError,
    HealthRegistry,
    HealthSettings,
    InvalidNameError,
    InvalidOptionError,
    UnknownNameError,
)
from cqrs_ddd_health.domain.models import Probe
from cqrs_ddd_health.testing import FakeClock, clean_registry
from tests.core.actors import Gated, Told, eventually, kind_of, row_of, waiting


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry(clock=FakeClock())


def names_of(registry: HealthRegistry) -> list[str]:
    return [row.name for row in registry.report_sync().components]


# --- register


async def test_register_returns_the_check_itself(registry: HealthRegistry) -> None:
    check = Told()
    assert registry.register("check", check) is check
    assert registry.names == ("check",)


async def test_register_is_a_decorator_without_a_check(registry: HealthRegistry) -> None:
    def check() -> bool:
        return True

    assert registry.register("check", critical=False, tags=("a",))(check) is check
    row = row_of(await registry.report())
    assert (row.state, row.critical, row.tags) == ("up", False, ("a",))


def test_a_decorator_refuses_a_bad_name_before_it_sees_the_check(
    registry: HealthRegistry,
) -> None:
    with pytest.raises(InvalidNameError):
        registry.register("")


async def test_a_known_name_is_replaced_and_starts_anew(registry: HealthRegistry) -> None:
    registry.register("check", Told(False), options=CheckOptions(failure_threshold=2))
    registry.register("other", Told())
    await registry.report()
    registry.register("check", Told(False), options=CheckOptions(failure_threshold=2))
    assert registry.names == ("check", "other")
    assert row_of(await registry.report()).consecutive_failures == 1


async def test_a_check_that_is_replaced_in_flight_does_not_answer_for_the_new_one(
    registry: HealthRegistry,
) -> None:
    old = registry.register("check", Gated(False))
    asker = asyncio.create_task(registry.report())
    await eventually(lambda: waiting(registry) == 1)
    registry.register("check", Told())
    assert row_of(await registry.report()).state == "up"
    old.gate.set()
    await asker
    assert row_of(await registry.report(max_age_seconds=60)).state == "up"


def test_a_known_name_is_refused_with_replace_false(registry: HealthRegistry) -> None:
    registry.register("check", Told(), replace=False)
    with pytest.raises(DuplicateNameError, match="'check' is registered already"):
        registry.register("check", Told(), replace=False)


@pytest.mark.parametrize("other", ["Orders-DB", "orders.db", "ORDERS DB", "orders/db"])
def test_names_that_are_spelled_the_same_in_the_environment_are_refused(
    registry: HealthRegistry, other: str
) -> None:
    registry.register("orders_db", Told())
    with pytest.raises(DuplicateNameError, match="both ORDERS_DB in the environment"):
        registry.register(other, Told())
    registry.unregister("orders_db")
    registry.register(other, Told())


def test_unregister_removes_and_names_what_is_unknown(registry: HealthRegistry) -> None:
    registry.register("check", Told())
    registry.unregister("check")
    assert registry.names == ()
    with pytest.raises(UnknownNameError, match="no check 'check'"):
        registry.unregister("check")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 129, "\u202ex", None, 5])
def test_a_name_that_cannot_be_shown_is_refused(registry: HealthRegistry, name: str) -> None:
    with pytest.raises(InvalidNameError, match="the name of a check"):
        registry.register(name, Told())


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(registry: HealthRegistry, seconds: float) -> None:
    with pytest.raises(InvalidOptionError, match="check 'check': timeout_seconds"):
        registry.register("check", Told(), timeout_seconds=seconds)


def test_other_options_that_are_none_are_refused(registry: HealthRegistry) -> None:
    probes: list[Probe] = ["alive"]  # type: ignore[list-item]
    with pytest.raises(InvalidOptionError, match="probes"):
        registry.register("check", Told(), probes=probes)
    with pytest.raises(InvalidOptionError, match="tags"):
        registry.register("check", Told(), tags="lone")
    with pytest.raises(InvalidOptionError, match="critical"):
        registry.register("check", Told(), critical="yes")  # type: ignore[call-overload]
    with pytest.raises(HealthError):
        registry.register("check", Told(), tags=["line\nbreak"])
    assert registry.names == ()


def test_the_environment_wins_over_keywords_and_keywords_over_options() -> None:
    settings = HealthSettings(
        check_timeout_seconds=9, checks={"Orders-DB": CheckSettings(timeout_seconds=1)}
    )
    registry = HealthRegistry(settings=settings)
    options = CheckOptions(timeout_seconds=2, critical=False)
    registry.register("orders db", Told(), timeout_seconds=3, options=options)
    registry.register("keyword", Told(), timeout_seconds=3, options=options)
    registry.register("options", Told(), options=options)
    registry.register("default", Told())
    slots = registry._engine.catalog.slots.values()
    assert [slot.options.timeout_seconds for slot in slots] == [1, 3, 2, 9]
    assert [slot.options.critical for slot in slots] == [False, False, False, True]
    assert registry.settings is settings


async def test_a_check_can_be_switched_off_by_the_settings() -> None:
    settings = HealthSettings(checks={"check": CheckSettings(enabled=False)})
    registry = HealthRegistry(settings=settings)
    check = registry.register("check", Told(False))
    assert (await registry.report()).components == ()
    assert check.calls == 0


# --- selection


async def test_a_probe_selects_the_critical_checks_that_gate_it(registry: HealthRegistry) -> None:
    registry.register("ready", Told())
    registry.register("live", Told(), probes=("live",))
    registry.register("both", Told(), probes=["live", "ready"])
    registry.register("optional", Told(), critical=False)
    registry.heartbeat("worker")
    probes: tuple[Probe | None, ...] = ("ready", "live", "startup", None)
    reports = [await registry.report(probe=probe) for probe in probes]
    assert [[row.name for row in report.components] for report in reports] == [
        ["ready", "both", "worker"],
        ["live", "both"],
        [],
        ["ready", "live", "both", "optional", "worker"],
    ]


async def test_tags_select_checks_with_one_of_them(registry: HealthRegistry) -> None:
    registry.register("a", Told(), tags={"x", "y"})
    registry.register("b", Told(), tags=("z",))
    registry.register("c", Told())
    registry.heartbeat("worker")
    report = await registry.report(tags=["y", "z", "unknown"])
    assert [row.name for row in report.components] == ["a", "b"]
    assert (await registry.report(tags=["unknown"])).components == ()


async def test_any_number_of_selections_is_right(registry: HealthRegistry) -> None:
    for number in range(100):
        registry.register(f"check {number}", Told(), tags=[f"tag {number}"])
    for number in range(100):
        report = await registry.report(tags=[f"tag {number}"])
        assert [row.name for row in report.components] == [f"check {number}"]


async def test_a_selection_that_is_none_is_refused(registry: HealthRegistry) -> None:
    with pytest.raises(InvalidOptionError, match="several names"):
        await registry.report(tags="lone")
    with pytest.raises(InvalidOptionError, match="live, ready, startup"):
        await registry.report(probe="alive")  # type: ignore[arg-type]


# --- required names


async def test_what_is_required_is_missing_until_a_check_or_a_worker_is_there() -> None:
    settings = HealthSettings(required=("check", "worker", "check"))
    registry = HealthRegistry(settings=settings)
    report = await registry.report()
    assert [(row.name, kind_of(report, row.name)) for row in report.components] == [
        ("check", "missing"),
        ("worker", "missing"),
    ]
    assert report.status == "unhealthy"
    registry.register("check", Told())
    registry.heartbeat("worker")
    assert (await registry.report()).status == "healthy"


async def test_a_required_worker_that_is_only_expected_is_still_missing() -> None:
    registry = HealthRegistry(settings=HealthSettings(required=("worker",)))
    registry.expect("worker")
    report = await registry.report(probe="ready")
    assert (kind_of(report, "worker"), report.status) == ("missing", "unhealthy")


async def test_what_is_missing_gates_ready_and_nothing_else() -> None:
    registry = HealthRegistry(settings=HealthSettings(required=("check",)))
    assert (await registry.report(probe="live")).components == ()
    assert (await registry.report(tags=["x"])).components == ()
    assert (await registry.report(probe="ready")).status == "unhealthy"


# --- instances


def test_fifty_threads_get_one_and_the_same_instance() -> None:
    with clean_registry():
        HealthRegistry.set_instance(None)
        barrier, found = threading.Barrier(50), set[int]()

        def get() -> None:
            barrier.wait()
            found.add(id(HealthRegistry.get_instance()))

        threads = [threading.Thread(target=get) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {id(HealthRegistry.get_instance())}


def test_ones_own_registry_may_be_the_default() -> None:
    with clean_registry() as before:
        own = HealthRegistry()
        HealthRegistry.set_instance(own)
        assert HealthRegistry.get_instance() is own
        assert HealthRegistry.exchange_instance(before) is own


async def test_registries_are_independent(registry: HealthRegistry) -> None:
    other = HealthRegistry()
    registry.register("check", Told())
    registry.heartbeat("worker")
    registry.drain()
    assert (await other.report()).components == ()
    assert (registry.draining, other.draining) == (True, False)


# --- the report and the contract's dicts


async def test_a_report_says_who_made_it_and_whether_it_is_leaving() -> None:
    settings = HealthSettings(service_name="orders", service_version="1.2", instance="pod")
    registry = HealthRegistry(settings=settings)
    report = await registry.report()
    service = report.service
    assert (service.name, service.version, service.instance) == ("orders", "1.2", "pod")
    assert not report.draining
    registry.drain()
    report = await registry.report()
    assert (report.draining, report.status) == (True, "healthy")


async def test_check_all_and_status_are_the_contracts_dicts(registry: HealthRegistry) -> None:
    registry.register("database", Told())
    registry.register("slow", Told(CheckResult(state="degraded")))
    registry.register("redis", Told(False))
    registry.heartbeat("worker")
    registry.expect("never")
    components = {"database": "up", "slow": "up", "redis": "down", "never": "down", "worker": "up"}
    assert await registry.check_all() == components
    status = await registry.status()
    assert status == {
        "status": "unhealthy",
        "components": components,
        "timestamp": "2026-01-01T00:00:00+00:00",
        "heartbeats": {"worker": "2026-01-01T00:00:00+00:00", "never": None},
    }
    assert list(status) == ["status", "components", "timestamp", "heartbeats"]
    assert {type(status), type(components), type(status["heartbeats"])} == {dict}
    assert datetime.fromisoformat(status["timestamp"]).utcoffset() == timedelta(0)


async def test_an_empty_registry_is_the_contracts_healthy(registry: HealthRegistry) -> None:
    assert await registry.check_all() == {}
    assert await registry.status() == {
        "status": "healthy",
        "components": {},
        "timestamp": "2026-01-01T00:00:00+00:00",
        "heartbeats": {},
    }


async def test_a_component_that_is_only_degraded_is_healthy_in_the_contracts_words(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(CheckResult(state="degraded")))
    assert ((await registry.report()).status, (await registry.status())["status"]) == (
        "degraded",
        "healthy",
    )


async def test_one_that_is_not_critical_and_down_is_unhealthy_in_the_contracts_words(
    registry: HealthRegistry,
) -> None:
    registry.register("check", Told(False), critical=False)
    assert ((await registry.report()).status, (await registry.status())["status"]) == (
        "degraded",
        "unhealthy",
    )


def test_register_replace_remove_and_beat_while_reports_are_made() -> None:
    registry = HealthRegistry()
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            registry.register(f"check {number % 7}", Told(number % 2))
            registry.heartbeat(f"worker {number % 5}")
            if number % 3 == 0:
                registry.unregister(f"check {number % 7}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(50):
            names = names_of(registry)
            assert len(set(names)) == len(names)
    finally:
        stop.set()
        thread.join()


def test_a_tag_that_cannot_be_shown_is_an_invalid_name() -> None:
    with pytest.raises(InvalidNameError):
        HealthRegistry().register("check", Told(), tags=["line\nbreak"])


# --- thousands of checks


def test_a_change_copies_nothing_before_somebody_looks(registry: HealthRegistry) -> None:
    catalog = registry._engine.catalog
    names = tuple(f"check {number}" for number in range(1_000))
    before = catalog._snapshot
    for name in names:
        registry.register(name, lambda: True)
    assert catalog._snapshot is before
    assert registry.names == names
    looked_at = catalog._snapshot
    for name in names[1:]:
        registry.unregister(name)
    assert catalog._snapshot is looked_at
    assert registry.names == names[:1]


def test_what_was_looked_at_does_not_change_any_more(registry: HealthRegistry) -> None:
    registry.register("first", lambda: True)
    slots = registry._engine.catalog.slots
    registry.register("second", lambda: True)
    registry.unregister("first")
    assert list(slots) == ["first"]
    assert registry.names == ("second",)


def test_each_change_is_seen_at_once_while_other_threads_make_theirs(
    registry: HealthRegistry,
) -> None:
    unseen: list[str] = []

    def change(writer: int) -> None:
        for number in range(200):
            name = f"{writer} {number}"
            registry.register(name, lambda: True, tags=[name])
            if name not in registry.names or name not in registry.tags:
                unseen.append(f"{name} is not there")
            if number % 2:
                registry.unregister(name)
                if name in registry.names:
                    unseen.append(f"{name} is still there")

    writers = [threading.Thread(target=change, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert unseen == []
    assert set(registry.names) == {
        f"{one} {number}" for one in range(4) for number in range(0, 200, 2)
    }
