"""Help for those who test what they built on this library."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from .config.settings import HealthSettings
from .domain.models import CheckResult
from .domain.protocols import HeartbeatStore, StoredBeat
from .registry import HealthRegistry

__all__ = ["FakeCheck", "FakeClock", "HeartbeatStoreConformance", "clean_registry"]


@contextmanager
def clean_registry(
    heartbeat_timeout_seconds: float | None = None, *, settings: HealthSettings | None = None
) -> Generator[HealthRegistry]:
    """Have a new, empty default registry for the time of the block, and the old one after it.

    At its end the new one is closed, with its threads and loops.
    """
    registry = HealthRegistry(heartbeat_timeout_seconds, settings=settings)
    before = HealthRegistry.exchange_instance(registry)
    try:
        yield registry
    finally:
        HealthRegistry.exchange_instance(before)
        registry.close()


class FakeClock:
    """A clock that stands still until told otherwise; its wall clock may jump on its own."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._monotonic = 1_000.0
        self._now = now

    def monotonic(self) -> float:
        """Return the seconds so far."""
        return self._monotonic

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a time server or an operator does."""
        self._now += timedelta(seconds=seconds)


class FakeCheck:
    """A typed check that does as it is told, and counts how often it was asked."""

    loop_bound = False  # it uses nothing that belongs to a loop

    def __init__(self, result: CheckResult | Exception | None = None) -> None:
        self.result: CheckResult | Exception = CheckResult() if result is None else result
        self.calls: int = 0

    async def check(self) -> CheckResult:
        """Return or raise the `result`."""
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class HeartbeatStoreConformance:
    """What every `HeartbeatStore` does; subclass it in a test module and say how to make one.

    The test methods are coroutines: run them with pytest-asyncio, anyio's plugin or one's own.
    """

    async def make_store(self) -> HeartbeatStore:
        """Return a new, empty store."""
        raise NotImplementedError

    async def age_everything(self, store: HeartbeatStore, seconds: float) -> None:
        """Make every beat in `store` so much older by its clock, as if time had passed there."""
        raise NotImplementedError

    async def test_what_is_published_is_read(self) -> None:
        store = await self.make_store()
        beat = _beat(phase="busy", progress=7)
        await store.publish([beat])
        read = (await store.read()).beats
        assert [found._replace(stamp=0.0) for found in read] == [beat]
        await store.close()

    async def test_a_publish_replaces_only_its_own_beat(self) -> None:
        store = await self.make_store()
        other = _beat(token="other")
        await store.publish([_beat(), other])
        await store.publish([_beat(publish_number=2, age_seconds=9.0)])
        read = {found.token: found for found in (await store.read()).beats}
        assert (read["token"].publish_number, read["token"].age_seconds) == (2, 9.0)
        assert read["other"]._replace(stamp=0.0) == other
        await store.close()

    async def test_workers_and_instances_are_kept_apart(self) -> None:
        store = await self.make_store()
        beats = [_beat(worker=worker, instance=at) for worker in ("a", "b") for at in ("1", "2")]
        await store.publish(beats)
        read = {(found.worker, found.instance) for found in (await store.read()).beats}
        assert read == {("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")}
        await store.close()

    async def test_the_stamp_is_the_stores_own_and_never_ahead_of_its_clock(self) -> None:
        store = await self.make_store()
        await store.publish([_beat(stamp=1e12)])
        read = await store.read()
        assert [found.stamp <= read.server_now for found in read.beats] == [True]
        await store.publish([_beat(publish_number=2)])
        again = await store.read()
        assert again.beats[0].stamp >= read.beats[0].stamp
        assert again.server_now >= read.server_now
        await store.close()

    async def test_the_stamp_is_of_the_moment_and_grows_old_without_a_publish(self) -> None:
        store = await self.make_store()
        await store.publish([_beat(stamp=1e12)])
        first = await store.read()
        elapsed = first.server_now - first.beats[0].stamp
        assert elapsed < _MOMENT_SECONDS, "it is not of the store's clock when it took the beat"
        await self.age_everything(store, 1_000.0)
        again = await store.read()
        elapsed = again.server_now - again.beats[0].stamp
        assert 1_000.0 <= elapsed < 1_000.0 + _MOMENT_SECONDS, "looking at a beat renews it"
        await store.publish([_beat(publish_number=2)])
        renewed = await store.read()
        assert renewed.server_now - renewed.beats[0].stamp < _MOMENT_SECONDS
        await store.close()

    async def test_instances_that_are_long_gone_make_room_but_for_the_last_of_a_worker(
        self,
    ) -> None:
        store = await self.make_store()
        gone = [_beat(instance=str(number), token=f"t{number}") for number in range(50)]
        await store.publish(gone)
        await self.age_everything(store, 30 * 86_400.0)
        for number in range(_PUBLISHES):
            await store.publish([_beat(worker="alive", publish_number=number)])
        held = [beat.worker for beat in (await store.read()).beats]
        assert held.count("alive") == 1
        assert held.count("worker") == 1, "an outage must not vanish, nor the dead pile up"
        await store.close()

    async def test_retiring_removes_one_process_and_no_other(self) -> None:
        store = await self.make_store()
        await store.publish([_beat(), _beat(token="other")])
        await store.retire("worker", "instance", "token")
        await store.retire("worker", "instance", "token")
        assert [found.token for found in (await store.read()).beats] == ["other"]
        await store.close()

    async def test_names_are_data(self) -> None:
        store = await self.make_store()
        name = 'it\'s "quoted"; DROP TABLE -- %s {0} \\ é 🩺'
        await store.publish([_beat(worker=name, instance=name)])
        assert [found.worker for found in (await store.read()).beats] == [name]
        await store.retire(name, name, "token")
        assert not (await store.read()).beats
        await store.close()


_MOMENT_SECONDS = 30.0
"""A machine may be slow, but not so slow."""

_PUBLISHES = 120
"""After so many publishes a store has looked for instances that are long gone."""


def _beat(
    *,
    worker: str = "worker",
    instance: str = "instance",
    token: str = "token",
    publish_number: int = 1,
    age_seconds: float = 1.5,
    phase: str | None = None,
    progress: int | None = None,
    stamp: float = 0.0,
) -> StoredBeat:
    return StoredBeat(
        worker, instance, token, publish_number, age_seconds, 60.0, 5.0, phase, progress, stamp
    )
