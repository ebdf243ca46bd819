"""A store that answers while nothing new comes from anybody: who is dead, and who only seems so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from math import inf

import pytest

from cqrs_ddd_health import BeatsRead, HealthRegistry, StoredBeat
from cqrs_ddd_health.domain.evaluation import Seen, worker_outcome
from cqrs_ddd_health.heartbeats.reader import CHANCE_SECONDS, BeatReader
from cqrs_ddd_health.heartbeats.shared import IDLE_SECONDS, STORE
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import row_of

TIMEOUT, INTERVAL = 20.0, 2.0
LATE = TIMEOUT + INTERVAL + 1


def stored(
    worker: str = "one", *, number: int = 1, age: float = 0.0, stamp: float = 100.0, token: str = ""
) -> StoredBeat:
    return StoredBeat(
        worker, "1", token or worker, number, age, TIMEOUT, INTERVAL, None, None, stamp
    )


class Looks:
    """A reader that looks again and again; the store's clock is 100 s ahead of ours."""

    def __init__(self, at: float = 0.0, *beats: StoredBeat) -> None:
        self.reader = BeatReader()
        self.look(at, *beats)

    def look(self, now: float, *beats: StoredBeat) -> Looks:
        self.reader.take(BeatsRead(100.0 + now, beats), now, now, "ours")
        return self

    def silent(self, behind_seconds: float | None = inf) -> set[str]:
        return set(self.reader.silent(behind_seconds))


# --- what the store says of itself


@pytest.mark.parametrize(
    ("told", "silent"), [(0.0, set[str]()), (inf, {"one"}), (None, set[str]())]
)
def test_the_only_worker_is_dead_unless_the_store_is_cut_off(
    told: float | None, silent: set[str]
) -> None:
    looks = Looks(0.0, stored()).look(LATE, stored())
    assert looks.reader.suspects() == {"one"}
    assert looks.silent(told) == silent
    assert looks.reader.suspects() == silent


def test_several_that_stop_at_once_are_not_believed_to_without_a_word_of_the_store() -> None:
    both = stored("one"), stored("other")
    assert Looks(0.0, *both).look(LATE, *both).silent(None) == {"one", "other"}
    assert Looks(0.0, *both).look(LATE, *both).silent(0.0) == set()


def test_a_copy_that_heard_of_its_primary_after_a_publish_was_due_is_believed() -> None:
    looks = Looks(0.0, stored()).look(LATE, stored())
    assert looks.silent(LATE - 2 * INTERVAL) == {"one"}
    assert looks.silent(LATE - 2 * INTERVAL - 0.1) == set()


def test_what_a_copy_has_heard_of_stays_heard() -> None:
    looks = Looks(0.0, stored()).look(LATE, stored())
    assert looks.silent(1.0) == set()
    looks.look(LATE + 1, stored())
    assert looks.silent(LATE) == set()


# --- what is heard of others


@pytest.mark.parametrize("token", ["other", "ours"])
def test_a_worker_is_dead_when_another_process_has_published_since(token: str) -> None:
    looks = Looks(0.0, stored(), stored("other", token=token))
    looks.look(10.0, stored(), stored("other", token=token, number=2, stamp=110.0))
    looks.look(LATE, stored(), stored("other", token=token, number=2, stamp=110.0))
    assert looks.silent() == set()


def test_a_worker_that_published_last_of_all_may_live() -> None:
    looks = Looks(0.0, stored(), stored("other"))
    looks.look(2.0, stored(number=2, stamp=102.0), stored("other"))
    looks.look(2.0 + LATE, stored(number=2, stamp=102.0), stored("other"))
    assert looks.silent() == {"one", "other"}


def test_in_which_order_rows_come_is_no_news() -> None:
    looks = Looks(0.0, stored(), stored("other"))
    looks.look(LATE, stored("other"), stored())
    assert looks.reader.unchanged_seconds == LATE
    assert looks.silent() == {"one", "other"}


def test_who_publishes_an_old_beat_is_stuck_and_not_silent() -> None:
    stuck = stored(age=TIMEOUT + INTERVAL + 1)
    assert Looks(0.0, stuck).look(1.0, stuck).silent() == set()


def test_who_is_fresh_is_not_silent() -> None:
    assert Looks(0.0, stored()).look(INTERVAL, stored()).silent() == set()


def test_at_the_first_look_the_stamps_tell_who_was_heard_of_last() -> None:
    rows = stored(stamp=50.0), stored("other", stamp=60.0)
    assert Looks(0.0, *rows).silent() == {"other"}
    assert Looks(0.0, *rows).silent(0.0) == set()


def test_an_empty_store_has_nobody_who_is_silent() -> None:
    looks = Looks().look(LATE)
    assert looks.silent() == set()
    assert not looks.reader.is_still


def test_a_store_is_still_when_the_quickest_has_missed_two_publishes() -> None:
    looks = Looks(0.0, stored()).look(2 * INTERVAL, stored())
    assert not looks.reader.is_still
    assert looks.look(2 * INTERVAL + 0.1, stored()).reader.is_still


# --- after a gap


def test_after_a_look_that_failed_each_has_a_chance_first() -> None:
    looks = Looks(0.0, stored())
    looks.reader.distrust()
    back = LATE + 1
    looks.look(back, stored())
    assert looks.silent(0.0) == {"one"}
    looks.look(back + INTERVAL + CHANCE_SECONDS - 0.1, stored())
    assert looks.silent(0.0) == {"one"}
    looks.look(back + INTERVAL + CHANCE_SECONDS, stored())
    assert looks.silent(0.0) == set()


def test_who_was_dead_before_the_gap_is_so_after_it() -> None:
    looks = Looks(0.0, stored()).look(LATE, stored())
    assert looks.silent(0.0) == set()
    looks.reader.distrust()
    looks.reader.distrust()
    looks.look(LATE + 1, stored())
    assert looks.silent(0.0) == set()


def test_after_a_gap_others_that_are_back_take_nobodys_chance() -> None:
    looks = Looks(0.0, stored(), stored("other"))
    looks.reader.distrust()
    back = LATE + 1
    looks.look(back, stored(), stored("other", number=2, stamp=100 + back))
    assert looks.reader.suspects() == {"one"}
    assert looks.silent(0.0) == {"one"}


def test_who_is_back_has_no_need_of_a_chance() -> None:
    looks = Looks(0.0, stored())
    looks.reader.distrust()
    looks.look(LATE, stored(number=2, stamp=100 + LATE))
    assert looks.silent(0.0) == set()


def test_a_store_that_was_cut_off_is_a_gap_too() -> None:
    looks = Looks(0.0, stored()).look(LATE, stored())
    assert looks.silent() == {"one"}
    looks.look(LATE + 1, stored())
    assert looks.silent(0.0) == {"one"}
    looks.look(LATE + 1 + INTERVAL + CHANCE_SECONDS, stored())
    assert looks.silent(0.0) == set()


# --- what a worker's row says


def test_only_what_would_be_down_is_unavailable() -> None:
    fresh = Seen(instances=1, fresh=1)
    assert worker_outcome(fresh, 1, in_grace=False, silent=True).state == "up"
    for seen in (Seen(instances=1), Seen()):
        outcome = worker_outcome(seen, 1, in_grace=False, silent=True)
        assert (outcome.state, outcome.kind) == ("degraded", "unavailable")
        assert (outcome.message or "").startswith("nothing new comes from any process")


# --- a registry around such a store


class Frozen:
    """A store that holds the same for ever, and can be exchanged for another one."""

    def __init__(self, clock: FakeClock, told: float | None) -> None:
        self._clock = clock
        self.told = told
        self.rows: Sequence[StoredBeat] = [stored()]
        self.behind: Sequence[StoredBeat] | None = None
        """What is read over a new connection."""
        self.reconnects = 0
        self.asked = 0

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        raise AssertionError("nobody beats here")

    async def retire(self, worker: str, instance: str, token: str) -> None:
        raise AssertionError("nobody beats here")

    async def read(self) -> BeatsRead:
        return BeatsRead(100.0 + self._clock.monotonic(), self.rows)

    async def reconnect(self) -> None:
        self.reconnects += 1
        self.rows = self.rows if self.behind is None else self.behind

    async def behind_seconds(self) -> float | None:
        self.asked += 1
        return self.told

    async def close(self) -> None:
        pass


@asynccontextmanager
async def frozen(told: float | None) -> AsyncGenerator[tuple[HealthRegistry, Frozen, FakeClock]]:
    clock = FakeClock()
    store = Frozen(clock, told)
    store.rows = [stored(stamp=100.0 + clock.monotonic())]
    registry = HealthRegistry(TIMEOUT, clock=clock, heartbeat_store=store)
    try:
        await registry.report()
        yield registry, store, clock
    finally:
        await registry.aclose()


async def test_a_store_that_is_cut_off_makes_nobody_dead_and_its_row_says_so() -> None:
    async with frozen(inf) as (registry, store, clock):
        registry.expect("never seen", grace_seconds=0)
        clock.advance(LATE)
        report = await registry.report()
        for name in ("one", "never seen"):
            failure = row_of(report, name).failure
            assert failure is not None
            assert (row_of(report, name).state, failure.kind) == ("degraded", "unavailable")
        assert {record.state for record in report.heartbeats if record.instance} == {"degraded"}
        row = row_of(report, STORE)
        assert row.state == "degraded"
        assert row.failure is not None
        assert (row.failure.message or "").startswith("it is readable, but nothing new comes")
        assert (store.reconnects, store.asked) == (1, 1)
        store.told = 0.0
        clock.advance(1)
        assert row_of(await registry.report(), "one").state == "degraded"
        clock.advance(INTERVAL + CHANCE_SECONDS)
        report = await registry.report()
        assert row_of(report, "one").state == "down"
        assert row_of(report, STORE).state == "up"


async def test_a_worker_that_died_in_a_store_that_is_well_is_dead_at_once() -> None:
    async with frozen(0.0) as (registry, _, clock):
        clock.advance(LATE)
        failure = row_of(await registry.report(), "one").failure
        assert failure is not None
        assert failure.kind == "stale"


async def test_others_that_went_on_to_another_server_are_found_there() -> None:
    async with frozen(0.0) as (registry, store, clock):
        clock.advance(LATE)
        store.behind = [stored(number=9, stamp=100.0 + clock.monotonic())]
        assert row_of(await registry.report(), "one").state == "up"
        assert store.reconnects == 1


async def test_a_store_that_nobody_changes_is_looked_at_anew_now_and_then() -> None:
    async with frozen(0.0) as (registry, store, clock):
        store.rows = []
        await registry.report()
        clock.advance(IDLE_SECONDS)
        await registry.report()
        assert store.reconnects == 0
        clock.advance(1)
        await registry.report()
        assert store.reconnects == 1
