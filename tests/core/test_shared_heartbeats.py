"""Beats that processes share: registries around one store that fails, hangs, loses and lies."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from cqrs_ddd_health import (
    BeatsRead,
    HealthRegistry,
    HealthReport,
    InvalidOptionError,
    MemoryHeartbeatStore,
    StoredBeat,
)
from cqrs_ddd_health.heartbeats import publisher as publishing
from cqrs_ddd_health.heartbeats.publisher import Publisher, publish_interval
from cqrs_ddd_health.heartbeats.shared import STORE
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import eventually, row_of
from tests.core.test_heartbeat_stores import PlainStore


class Store(MemoryHeartbeatStore):
    """A store that can be told to fail or to hang, and tells on which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.hangs = False
        self.refuses_writes = False
        self.publishes: int = 0
        self.closed = 0
        self.threads: set[threading.Thread] = set()
        self.retired: list[tuple[str, str, str]] = []

    async def asked(self) -> None:
        self.threads.add(threading.current_thread())
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        self.publishes += 1
        await self.asked()
        if self.refuses_writes:
            raise PermissionError("hunter2")
        await super().publish(beats)

    async def read(self) -> BeatsRead:
        await self.asked()
        return await super().read()

    async def retire(self, worker: str, instance: str, token: str) -> None:
        await self.asked()
        self.retired.append((worker, instance, token))
        await super().retire(worker, instance, token)

    async def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def sharing(
    store: Store, *timeouts: float | None
) -> AsyncGenerator[tuple[HealthRegistry, ...]]:
    """Registries around one store, as many as timeouts are given."""
    registries = tuple(HealthRegistry(timeout, heartbeat_store=store) for timeout in timeouts)
    try:
        yield registries
    finally:
        for registry in registries:
            publisher_of(registry).leave()


def publisher_of(registry: HealthRegistry) -> Publisher:
    shared = registry._engine.shared
    assert shared is not None
    return shared.publisher


async def until_seen(reader: HealthRegistry, state: str, worker: str = "outbox") -> HealthReport:
    """The first report in which the worker is in that state."""
    async with asyncio.timeout(10):
        while True:
            report = await reader.report()
            row = report.component(worker)
            if row is not None and row.state == state:
                return report
            await asyncio.sleep(0.01)


# --- one beats, the other shows it


async def test_one_beats_and_the_other_shows_it_and_it_gates_nothing() -> None:
    async with sharing(Store(), 60, 60) as (worker, reader):
        worker.heartbeat("outbox", phase="busy", progress=7)
        report = await until_seen(reader, "up")
        assert row_of(report, "outbox").probes == ()
        assert row_of(await worker.report(), "outbox").probes == ("ready",)
        (record,) = report.heartbeats
        assert (record.phase, record.progress, record.timeout_seconds) == ("busy", 7, 60)
        assert record.instance == (await worker.report()).service.instance
        store = row_of(report, STORE)
        assert (store.kind, store.state, store.critical, store.probes) == ("store", "up", False, ())
        assert store.details["instances"] == 1


async def test_the_store_is_asked_on_one_thread_that_is_nobodys() -> None:
    store = Store()
    async with sharing(store, 60, 60) as (worker, reader):
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        assert {thread.name for thread in store.threads} == {"cqrs-health-heartbeats"}
        assert len(store.threads) == 2
        assert all(thread.daemon for thread in store.threads)


async def test_a_worker_that_stops_beating_grows_old_while_it_is_published() -> None:
    store = Store()
    async with sharing(store, 0.2, 60) as (worker, reader):
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        report = await until_seen(reader, "down")
        failure = row_of(report, "outbox").failure
        assert failure is not None
        assert failure.kind == "stale"
        assert store.publishes > 3
        worker.heartbeat("outbox")
        await until_seen(reader, "up")


async def test_a_worker_that_is_killed_grows_old_too() -> None:
    async with sharing(Store(), 0.2, 60) as (worker, reader):
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        publisher_of(worker).leave(goodbye=False)
        worker._engine.store.own.clear()
        report = await until_seen(reader, "down")
        assert report.heartbeats[0].state == "down"


async def test_a_worker_that_retires_leaves_at_once() -> None:
    store = Store()
    async with sharing(store, 60, 60) as (worker, reader):
        worker.heartbeat("outbox")
        worker.heartbeat("outbox", instance="other")
        await until_seen(reader, "up")
        worker.retire("outbox")
        await eventually(lambda: len(store.retired) == 2)
        assert (await reader.report()).component("outbox") is None


async def test_a_worker_says_goodbye_when_its_process_ends() -> None:
    store = Store()
    async with sharing(store, 60) as (worker,):
        worker.heartbeat("outbox")
        await eventually(lambda: store.publishes > 0)
        publishing._leave_all()
        assert (await store.read()).beats == []
        worker.heartbeat("outbox", phase="busy")  # a thread that does not know yet
        assert not publisher_of(worker).is_running
        assert store.closed == 1


async def test_a_process_that_an_exception_ends_leaves_its_beats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    monkeypatch.setattr("sys.last_value", OSError(), raising=False)
    async with sharing(store, 60) as (worker,):
        worker.heartbeat("outbox")
        await eventually(lambda: store.publishes > 0)
        publishing._leave_all()
        assert [beat.worker for beat in (await store.read()).beats] == ["outbox"]


async def test_a_beat_after_the_end_is_published_again() -> None:
    store = Store()
    async with sharing(store, 60, 60) as (worker, reader):
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        publisher_of(worker).leave()
        worker.heartbeat("outbox", phase="idle")
        assert (await until_seen(reader, "up")).heartbeats[0].phase == "idle"


@pytest.mark.parametrize("instance", [None, "of its own"])
async def test_closing_ends_a_reader_and_leaves_a_worker_to_publish(instance: str | None) -> None:
    async with sharing(Store(), 60, 60) as (worker, reader):
        worker.heartbeat("outbox", instance=instance)
        await until_seen(reader, "up")
        for registry in (worker, reader):
            await registry.aclose()
        assert publisher_of(worker).is_running
        assert not publisher_of(reader).is_running
        assert (await until_seen(reader, "up")).status == "healthy"


# --- what is expected


async def test_fewer_than_expected_is_degraded_and_fewer_than_needed_down() -> None:
    async with sharing(Store(), 0.5, 60, 60) as (first, second, reader):
        reader.expect("outbox", min_instances=1, instances=2, grace_seconds=0)
        assert row_of(await reader.report(), "outbox").state == "down"
        first.heartbeat("outbox")
        failure = row_of(await until_seen(reader, "degraded"), "outbox").failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("missing", "1 of 2 expected instances are fresh")
        second.heartbeat("outbox")
        await until_seen(reader, "up")
        await until_seen(reader, "degraded")
        second.retire("outbox")
        await until_seen(reader, "down")


async def test_two_processes_under_one_name_are_a_conflict() -> None:
    async with sharing(Store(), 60, 60) as (first, second):
        for registry in (first, second):
            registry.heartbeat("outbox", instance="one")
        row = row_of(await until_seen(first, "degraded"), "outbox")
        assert row.failure is not None
        assert row.failure.message == "two processes beat as instance 'one'"
        assert row.details["conflicts"] == ("one",)


async def test_a_busy_worker_that_makes_no_progress_is_degraded() -> None:
    clock = FakeClock()
    registry = HealthRegistry(600, clock=clock)
    registry.expect("projection", stall_seconds=30)
    registry.expect("idle", stall_seconds=30)
    registry.heartbeat("idle", phase="idle", progress=1)
    for progress, seconds, state in (
        (1, 0, "up"),
        (1, 29, "up"),
        (2, 2, "up"),
        (2, 30, "degraded"),
    ):
        clock.advance(seconds)
        registry.heartbeat("projection", phase="busy", progress=progress)
        report = await registry.report()
        assert row_of(report, "projection").state == state
    row = row_of(await registry.report(), "projection")
    assert row.failure is not None
    assert row.failure.message is not None
    assert row.failure.message.endswith("is busy and makes no progress")
    assert row_of(await registry.report(), "idle").state == "up"
    registry.heartbeat("projection", phase="idle", progress=2)
    assert row_of(await registry.report(), "projection").state == "up"
    registry.heartbeat("projection", phase="busy", progress=2)
    await registry.report()
    registry.retire("projection")
    registry.expect("projection", stall_seconds=30)
    await registry.report()
    assert registry._engine.workers._progress == {}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"instances": 0}, "instances"),
        ({"min_instances": 3, "instances": 2}, "instances"),
        ({"stall_seconds": -1.0}, "stall_seconds"),
    ],
)
def test_what_cannot_be_expected(arguments: dict[str, float], match: str) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        HealthRegistry().expect("outbox", **arguments)  # type: ignore[arg-type]


async def test_a_worker_elsewhere_gates_what_it_is_said_to_gate() -> None:
    store = Store()
    async with sharing(store, 60, 60) as (worker, reader):
        reader.expect("outbox", probes=("ready",), grace_seconds=0)
        assert (await reader.report(probe="ready")).status == "unhealthy"
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        report = await reader.report(probe="ready")
        assert [(row.name, row.state) for row in report.components] == [("outbox", "up")]
        assert (await reader.report(tags=["any"])).components == ()


async def test_a_probe_that_no_worker_gates_does_not_ask_the_store() -> None:
    store = Store()
    store.error = OSError()
    async with sharing(store, 60) as (reader,):
        assert (await reader.report(probe="ready")).status == "healthy"
        assert store.threads == set()


# --- a store that fails


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_store_that_cannot_be_read_makes_nobody_dead(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECK_TIMEOUT_SECONDS", "0.2")
    store = Store()
    async with sharing(store, 60, 60) as (worker, reader):
        reader.expect("saga", probes=("ready",), grace_seconds=0)
        worker.heartbeat("outbox")
        await until_seen(reader, "up")
        reader.heartbeat("projection")
        store.hangs, store.error = how == "hangs", OSError() if how == "fails" else None
        report = await until_seen(reader, "degraded")
        assert report.status == "degraded"
        states = {
            row.name: (row.state, row.failure and row.failure.kind) for row in report.components
        }
        assert states == {
            STORE: ("down", "timeout" if how == "hangs" else "exception"),
            "projection": ("up", None),
            "saga": ("degraded", "unavailable"),
            "outbox": ("degraded", "unavailable"),
        }
        assert {record.state for record in report.heartbeats} == {"degraded", "up", "down"}
        store.hangs, store.error = False, None
        report = await until_seen(reader, "up")
        assert row_of(report, "saga").state == "down"


async def test_beats_are_kept_while_the_store_is_away_and_the_newest_is_published(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 0.05)
    store = Store()
    async with sharing(store, 0.5, 60) as (worker, reader):
        store.error = OSError("hunter2")
        worker.heartbeat("outbox", progress=1)
        await eventually(lambda: store.publishes > 2)
        store.error, store.hangs = None, True
        tried = store.publishes
        await eventually(lambda: store.publishes > tried + 1)
        worker.heartbeat("outbox", progress=2)
        store.hangs = False
        report = await until_seen(reader, "up")
        assert report.heartbeats[0].progress == 2
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        said = [record.getMessage() for record in warnings if "published" in record.getMessage()]
        assert said == ["heartbeats cannot be published: OSError"]


async def test_a_store_that_can_only_be_read_is_degraded() -> None:
    store = Store()
    store.refuses_writes = True
    async with sharing(store, 60) as (worker,):
        worker.heartbeat("outbox")
        await eventually(lambda: publisher_of(worker).failure is not None)
        row = row_of(await worker.report(), STORE)
        assert row.state == "degraded"
        assert row.failure is not None
        assert row.failure.message is not None
        assert row.failure.message.endswith("cannot be published: PermissionError")
        assert row_of(await worker.report(), "outbox").state == "up"


async def test_a_store_that_lost_everything_is_filled_again() -> None:
    store = Store()
    async with sharing(store, 0.5, 60) as (worker, reader):
        worker.heartbeat("outbox", timeout_seconds=60)
        worker.heartbeat("quick")
        await until_seen(reader, "up")
        store._published.clear()
        store._recount()
        await until_seen(reader, "up")


async def test_what_the_store_could_not_read_is_counted() -> None:
    class Garbled(Store):
        async def read(self) -> BeatsRead:
            return (await super().read())._replace(dropped=3)

    async with sharing(Garbled(), 60) as (reader,):
        assert row_of(await reader.report(), STORE).details["dropped"] == 3


async def test_more_instances_than_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    await store.publish([StoredBeat("w", str(n), "t", 1, float(n), 60.0) for n in range(5)])
    monkeypatch.setenv("CQRS_HEALTH_MAX_INSTANCES", "3")
    async with sharing(store, 60) as (reader,):
        report = await reader.report()
        assert row_of(report, STORE).details["dropped"] == 2
        assert [record.instance for record in report.heartbeats] == ["2", "1", "0"]


class Crowded(Store):
    """A store of which a limit leaves out so much."""

    unread = 1

    async def read(self) -> BeatsRead:
        read = await super().read()
        return read._replace(dropped=self.unread, unread=self.unread)


async def test_while_some_was_left_out_nobody_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_REQUIRED", "required")
    store = Crowded()
    await store.publish([StoredBeat("seen", "1", "t", 1, 0.0, 60.0)])
    async with sharing(store, 60) as (reader,):
        for name in ("expected", "seen"):
            reader.expect(name, grace_seconds=0, min_instances=1 + (name == "seen"))
        report = await reader.report()
        for name in ("expected", "seen", "required"):
            row = row_of(report, name)
            assert row.failure is not None
            assert (row.state, row.failure.kind) == ("degraded", "unavailable"), name
        assert report.status == "degraded"
        store.unread = 0
        report = await reader.report()
        for name in ("expected", "seen", "required"):
            row = row_of(report, name)
            assert row.failure is not None
            assert (row.state, row.failure.kind) == ("down", "missing"), name


@pytest.mark.parametrize(("seconds", "kind"), [(0.0, "unavailable"), (100.0, "stale")])
async def test_who_was_seen_dead_is_dead_if_all_that_was_published_later_was_read(
    seconds: float, kind: str
) -> None:
    class Aged(Crowded):
        async def read(self) -> BeatsRead:
            read = await super().read()
            return read._replace(server_now=read.server_now + seconds)

    store = Aged()
    await store.publish([StoredBeat("dead", "1", "t", 1, 61.0, 60.0)])
    async with sharing(store, 60) as (reader,):
        reader.expect("dead")
        failure = row_of(await reader.report(), "dead").failure
        assert failure is not None
        assert failure.kind == kind


@pytest.mark.parametrize(("age", "kind"), [(0.0, "unavailable"), (70.0, "stale")])
async def test_beyond_the_limit_of_instances_the_living_may_be_left_out(
    monkeypatch: pytest.MonkeyPatch, age: float, kind: str
) -> None:
    monkeypatch.setenv("CQRS_HEALTH_MAX_INSTANCES", "2")
    store = Store()
    beats = [StoredBeat("w", f"{n}", "t", 1, age, 60.0) for n in range(3)]
    await store.publish([*beats, StoredBeat("dead", "1", "t", 1, 61.0, 60.0)])
    async with sharing(store, 60) as (reader,):
        reader.expect("dead", grace_seconds=0)
        failure = row_of(await reader.report(), "dead").failure
        assert failure is not None
        assert failure.kind == kind


async def test_what_is_in_doubt_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECK_TIMEOUT_SECONDS", "0.1")

    class Ahead(Store):
        async def read(self) -> BeatsRead:
            read = await super().read()
            return read._replace(server_now=read.server_now - 3_600)

    store = Ahead()
    await store.publish([StoredBeat("outbox", "1", "t", 1, 0.0, 60.0, 5.0)])
    async with sharing(store, 60) as (reader,):
        for name in ("outbox", "other"):
            reader.expect(name, grace_seconds=0)
        failures = [row.failure for row in (await reader.report()).components if row.failure]
        assert [failure.kind for failure in failures] == ["unavailable", "missing"]


async def test_live_judges_no_worker_unless_one_was_said_to_gate_it() -> None:
    store = Store()
    await store.publish([StoredBeat(f"w {n}", "1", "t", 1, 61.0, 60.0) for n in range(5)])
    async with sharing(store, 60) as (reader,):
        reader.heartbeat("ours")
        await reader.report()
        report = await reader.report(probe="live")
        assert (report.components, report.heartbeats, report.heartbeats_omitted) == ((), (), 0)
        report = await reader.report(probe="ready")
        assert [row.name for row in report.components] == ["ours"]
        assert [record.worker for record in report.heartbeats] == ["ours"]
        reader.expect("w 3", probes=("live",))
        report = await reader.report(probe="live")
        assert [(row.name, row.state) for row in report.components] == [("w 3", "down")]


async def test_made_up_names_are_bounded_in_every_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_MAX_SHARED_WORKERS", "3")
    store = Store()
    await store.publish([StoredBeat(f"w {n}", "1", "t", 1, 1.0, 60.0) for n in range(9)])
    await store.publish([StoredBeat("dead", "1", "t", 1, 61.0, 60.0)])
    async with sharing(store, 60) as (reader,):
        reader.expect("w 8")
        reader.heartbeat("ours")
        report = await reader.report()
        workers = [row.name for row in report.components if row.kind == "worker"]
        assert len(workers) == 5
        assert {"w 8", "ours", "dead"} < set(workers)
        assert report.heartbeats_omitted == 11 - 5
        status = await reader.status()
        assert set(status["heartbeats"]) == set(workers)
        assert set(status["components"]) == {*workers, STORE}
        measured = reader.measurements()
        assert set(measured.instances) == set(workers)
        assert measured.omitted_workers == 6


async def test_a_reader_without_history_looks_twice_at_what_comes_from_the_future(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECK_TIMEOUT_SECONDS", "1")

    class Ahead(Store):
        async def read(self) -> BeatsRead:
            read = await super().read()
            return read._replace(server_now=read.server_now - 3_600)

    async with sharing(Ahead(), 0.5, 60) as (worker, reader):
        worker.heartbeat("outbox", timeout_seconds=60)
        worker.heartbeat("quick")  # so that it publishes often
        await eventually(lambda: publisher_of(worker)._number > 1)
        report = await reader.report()
        assert row_of(report, "outbox").state == "up"


# --- processes and threads


async def test_a_forked_child_has_a_thread_of_its_own_and_tells_the_store() -> None:
    class Forked(Store):
        processes = 0

        def begin_process(self) -> None:
            self.processes = getattr(self, "processes", 0) + 1
            super().begin_process()

    store = Forked()
    async with sharing(store, 60) as (worker,):
        worker.heartbeat("outbox")
        await worker.report()
        before, told = publisher_of(worker)._thread, store.processes
        publisher_of(worker).leave()
        worker._engine.begin_process()
        assert store.processes > told
        assert not publisher_of(worker).is_running
        worker.heartbeat("outbox")
        assert publisher_of(worker)._thread is not before
        await until_seen(worker, "up")


@pytest.mark.parametrize("what", ["threading.Thread.start", "asyncio.new_event_loop"])
async def test_where_no_thread_can_be_had_the_beat_stands_and_the_row_says_so(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    registry = HealthRegistry(60, heartbeat_store=store)

    def refuse(*_: object) -> None:
        raise OSError if "loop" in what else RuntimeError

    monkeypatch.setattr(what, refuse)
    registry.heartbeat("outbox")
    report = await registry.report()
    monkeypatch.undo()
    row = row_of(report, STORE)
    assert row.failure is not None
    assert row.failure.exception_type == "RuntimeError"
    assert row_of(report, "outbox").state == "up"


async def test_a_publish_that_ignores_its_end_is_not_joined_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 0.01)
    released = threading.Event()

    class Stubborn(Store):
        async def publish(self, beats: Sequence[StoredBeat]) -> None:
            self.publishes += 1
            while not released.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            await super().publish(beats)

    store = Stubborn()
    async with sharing(store, 0.5) as (worker,):
        worker.heartbeat("outbox")
        await eventually(lambda: publisher_of(worker).failure == "TimeoutError")
        await asyncio.sleep(0.3)
        assert store.publishes == 1
        released.set()
        await eventually(lambda: store.publishes > 2)


def test_it_publishes_ten_times_within_the_smallest_timeout() -> None:
    assert publish_interval([]) == 5
    assert publish_interval([600, 0]) == 5
    assert publish_interval([600, 20]) == 2
    assert publish_interval([0.001]) == 0.05


async def test_a_publish_in_flight_does_not_use_up_the_time_for_a_goodbye() -> None:
    store = Store()
    store.hangs = True
    async with sharing(store, 60) as (worker,):
        worker.heartbeat("outbox")
        await eventually(lambda: store.publishes == 1)
        store.hangs = False
        publisher_of(worker).leave()
        assert [key[0] for key in store.retired] == ["outbox"]
        assert publisher_of(worker).failure is None


async def test_a_store_needs_no_more_than_the_protocol() -> None:
    registry = HealthRegistry(60, heartbeat_store=PlainStore())
    registry.heartbeat("outbox")
    assert (await registry.report()).status == "healthy"
    publisher_of(registry).leave()


def test_who_leaves_before_it_began_leaves_at_once() -> None:
    registry = HealthRegistry(60, heartbeat_store=Store())
    publisher_of(registry).leave()
    assert not publisher_of(registry).is_running
