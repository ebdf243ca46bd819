"""The conformance suite of heartbeat stores: what passes it, and what must not."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from cqrs_ddd_health import BeatsRead, HeartbeatStore, MemoryHeartbeatStore, StoredBeat
from cqrs_ddd_health.testing import FakeClock, HeartbeatStoreConformance

Key = tuple[str, str, str]


class TestMemoryHeartbeatStore(HeartbeatStoreConformance):
    async def make_store(self) -> HeartbeatStore:
        self.clock = FakeClock()
        return MemoryHeartbeatStore(clock=self.clock)

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        assert isinstance(store, MemoryHeartbeatStore)
        self.clock.advance(seconds)


def beat(worker: str = "worker", instance: str = "instance", publish_number: int = 1) -> StoredBeat:
    return StoredBeat(worker, instance, "token", publish_number, 1.5, 60.0, 5.0)


class PlainStore:
    """A store that keeps all rules; each one below breaks one of them."""

    def __init__(self) -> None:
        self.held: dict[Key, StoredBeat] = {}
        self.clock = 100.0

    def key(self, beat: StoredBeat) -> Key:
        return (beat.worker, beat.instance, beat.token)

    def tick(self) -> float:
        self.clock += 1
        return self.clock

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        now = self.tick()
        for published in beats:
            self.held[self.key(published)] = published._replace(stamp=now)
        self.prune(now)

    def prune(self, now: float) -> None:
        last = {beat.worker: self.key(beat) for beat in self.held.values()}
        for key, beat in list(self.held.items()):
            if now - beat.stamp > 86_400 and key != last[beat.worker]:
                del self.held[key]

    async def read(self) -> BeatsRead:
        return BeatsRead(self.tick(), list(self.held.values()))

    async def retire(self, worker: str, instance: str, token: str) -> None:
        self.held.pop((worker, instance, token), None)

    async def close(self) -> None:
        return


class StampsWithTheWorkersClock(PlainStore):
    """Whose host is an hour behind."""

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        await super().publish(beats)
        for new in beats:
            held = self.held[self.key(new)]
            self.held[self.key(new)] = held._replace(stamp=held.stamp - 3_600)


class RenewsWithoutABeat(PlainStore):
    async def read(self) -> BeatsRead:
        read = await super().read()
        return read._replace(beats=[held._replace(stamp=read.server_now) for held in read.beats])


class NeverExpires(PlainStore):
    def prune(self, now: float) -> None:
        return


class ForgetsAnOutage(PlainStore):
    def prune(self, now: float) -> None:
        for key, beat in list(self.held.items()):
            if now - beat.stamp > 86_400:
                del self.held[key]


class LosesThePhase(PlainStore):
    async def read(self) -> BeatsRead:
        read = await super().read()
        return read._replace(beats=[held._replace(phase=None) for held in read.beats])


class KeepsTheFirstBeat(PlainStore):
    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        await super().publish([new for new in beats if self.key(new) not in self.held])


class IgnoresTheToken(PlainStore):
    def key(self, beat: StoredBeat) -> Key:
        return (beat.worker, beat.instance, "")

    async def retire(self, worker: str, instance: str, token: str) -> None:
        self.held.pop((worker, instance, ""), None)


class MixesUpInstances(PlainStore):
    def key(self, beat: StoredBeat) -> Key:
        return (beat.worker, "", beat.token)

    async def retire(self, worker: str, instance: str, token: str) -> None:
        self.held.pop((worker, "", token), None)


class ForgetsOtherPublishers(PlainStore):
    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        self.held.clear()
        await super().publish(beats)


class BelievesThePublishersStamp(PlainStore):
    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        for published in beats:
            self.held[self.key(published)] = published


class HasAClockThatGoesBack(PlainStore):
    def tick(self) -> float:
        self.clock -= 1
        return self.clock


class RetiresTheWholeInstance(PlainStore):
    async def retire(self, worker: str, instance: str, token: str) -> None:
        for key in list(self.held):
            if key[:2] == (worker, instance):
                del self.held[key]


class RaisesWhenRetiredTwice(PlainStore):
    async def retire(self, worker: str, instance: str, token: str) -> None:
        del self.held[worker, instance, token]


class NeverRetires(PlainStore):
    async def retire(self, worker: str, instance: str, token: str) -> None:
        return


class QuotesNames(PlainStore):
    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        quoted = [new._replace(worker=new.worker.replace("'", "''")) for new in beats]
        await super().publish(quoted)


class HasOnlyAscii(PlainStore):
    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        for published in beats:
            published.worker.encode("ascii")
        await super().publish(beats)


BROKEN = [
    StampsWithTheWorkersClock,
    RenewsWithoutABeat,
    NeverExpires,
    ForgetsAnOutage,
    LosesThePhase,
    KeepsTheFirstBeat,
    IgnoresTheToken,
    MixesUpInstances,
    ForgetsOtherPublishers,
    BelievesThePublishersStamp,
    HasAClockThatGoesBack,
    RetiresTheWholeInstance,
    RaisesWhenRetiredTwice,
    NeverRetires,
    QuotesNames,
    HasOnlyAscii,
]


async def failures_of(make: Callable[[], HeartbeatStore]) -> list[str]:
    """Run the whole suite over stores made by `make` and return the names of what failed."""

    class Suite(HeartbeatStoreConformance):
        async def make_store(self) -> HeartbeatStore:
            return make()

        async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
            assert isinstance(store, PlainStore)
            store.clock += seconds

    failed: list[str] = []
    for name, method in inspect.getmembers(Suite(), inspect.ismethod):
        if not name.startswith("test_"):
            continue
        try:
            await cast("Callable[[], Awaitable[None]]", method)()
        except Exception:
            failed.append(name)
    return failed


@pytest.mark.parametrize("broken", BROKEN)
async def test_the_suite_fails_a_store_that_is_broken_on_purpose(
    broken: type[PlainStore],
) -> None:
    assert await failures_of(broken) != []


async def test_the_suite_passes_a_store_that_keeps_the_rules() -> None:
    assert await failures_of(PlainStore) == []


async def test_the_suite_says_what_an_implementer_has_to_give() -> None:
    suite = HeartbeatStoreConformance()
    with pytest.raises(NotImplementedError):
        await suite.make_store()
    with pytest.raises(NotImplementedError):
        await suite.age_everything(PlainStore(), 1.0)


# --- the store of one process


async def test_a_process_reads_its_own_beats_as_if_it_had_just_published_them() -> None:
    clock = FakeClock()
    store = MemoryHeartbeatStore(timeout_seconds=7, instance="me", clock=clock)
    store.beat("worker", None, 9, "busy", 3)
    store.beat("worker", "other")
    clock.advance(2)
    read = await store.read()
    assert [
        (held.worker, held.instance, held.token, held.age_seconds, held.timeout_seconds)
        for held in read.beats
    ] == [("worker", "me", store.token, 2, 9), ("worker", "other", store.token, 2, 7)]
    assert [(held.phase, held.progress) for held in read.beats] == [("busy", 3), (None, None)]
    assert read.dropped == 0


async def test_a_process_may_retire_its_own_beat_like_any_other() -> None:
    store = MemoryHeartbeatStore(instance="me")
    store.beat("worker")
    store.beat("worker", "other")
    await store.retire("worker", "me", store.token)
    assert [held.instance for held in (await store.read()).beats] == ["other"]


async def test_the_age_of_a_published_beat_grows_with_the_stores_clock() -> None:
    clock = FakeClock()
    store = MemoryHeartbeatStore(clock=clock)
    await store.publish([beat()])
    clock.advance(10)
    clock.jump(-86_400)
    (seen,) = store.beats(clock.monotonic())
    assert (seen.age_seconds, seen.timeout_seconds, seen.publish_interval_seconds) == (11.5, 60, 5)
    assert not seen.local


async def test_a_beat_that_looks_as_if_it_came_from_the_future_is_as_of_now() -> None:
    clock = FakeClock()
    store = MemoryHeartbeatStore(clock=clock)
    store.beat("worker")
    await store.publish([beat()])
    assert {seen.age_seconds for seen in store.beats(clock.monotonic() - 5)} == {0, 1.5}


async def test_published_beats_are_bounded_like_ones_own() -> None:
    store = MemoryHeartbeatStore(max_workers=1, max_instances=2)
    await store.publish([beat(), beat("other"), beat(instance="2"), beat(instance="3")])
    await store.publish([beat(publish_number=2)])
    assert len((await store.read()).beats) == 2
    assert store.dropped == 2


async def test_a_store_retires_by_the_whole_key_only() -> None:
    store = MemoryHeartbeatStore()
    await store.publish([beat()])
    for key in (("x", "instance", "token"), ("worker", "x", "token"), ("worker", "instance", "x")):
        await store.retire(*key)
    assert len((await store.read()).beats) == 1
    await store.close()
