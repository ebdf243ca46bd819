"""The age of a beat in a shared store: right while clocks jump, looks are late, processes pause."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import BeatsRead, StoredBeat
from cqrs_ddd_health.heartbeats.reader import BeatReader

TIMEOUT, INTERVAL = 20.0, 2.0


def stored(
    *, number: int = 1, age: float = 0.0, stamp: float = 100.0, token: str = "theirs"
) -> StoredBeat:
    return StoredBeat("worker", "1", token, number, age, TIMEOUT, INTERVAL, None, None, stamp)


def ages(reader: BeatReader, now: float, server_now: float, *beats: StoredBeat) -> list[float]:
    looked = reader.take(BeatsRead(server_now, beats), now, now, "ours")
    return list(looked.beats.ages)


def test_a_reader_without_history_goes_by_the_stores_clock() -> None:
    assert ages(BeatReader(), 0.0, 107.0, stored(age=3)) == [10.0]


def test_our_own_beats_are_left_out() -> None:
    assert ages(BeatReader(), 0.0, 100.0, stored(token="ours"), stored()) == [0.0]


def test_a_clock_that_jumps_forward_makes_nobody_old() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored())
    assert ages(reader, 2.0, 3_702.0, stored(number=2, age=0.5, stamp=101.5)) == [2.5]


def test_a_machine_that_slept_makes_nobody_old_before_he_could_beat() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored())
    ages(reader, 2.0, 102.0, stored(number=2, stamp=102.0))
    # The store's clock went on, those of the processes did not.
    assert ages(reader, 3.0, 3_703.0, stored(number=2, stamp=102.0)) == [3.0]


def test_a_reader_that_was_paused_sees_what_happened_meanwhile() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored(), stored(token="dead"))
    alive, dead = stored(number=900, stamp=3_701.0), stored(token="dead")
    assert ages(reader, 3_600.0, 3_702.0, alive, dead) == [1.0, 3_602.0]


def test_a_clock_that_jumps_back_makes_nobody_young() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored())
    assert [ages(reader, now, 100.0 + now - 3_600, stored()) for now in (10.0, 30.0)] == [
        [10.0],
        [30.0],
    ]
    ages(reader, 31.0, 100.0, stored(number=2, age=1))
    assert ages(reader, 41.0, 110.0 - 3_600, stored(number=2, age=1)) == [11.0]


def test_a_stamp_from_the_future_is_not_believed_before_it_was_seen_to_change() -> None:
    reader = BeatReader()
    looked = reader.take(BeatsRead(100.0, [stored(stamp=3_700)]), 0.0, 0.0, "ours")
    assert (list(looked.beats.ages), looked.doubtful) == ([], 1)
    assert ages(reader, 2.0, 102.0, stored(number=2, age=1.0, stamp=3_702)) == [1.0]


def test_who_does_not_publish_any_more_is_gone_whatever_his_stamp_says() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored(stamp=3_700))
    (age,) = ages(reader, 2 * INTERVAL, 104.0, stored(stamp=3_700))
    assert age > TIMEOUT + INTERVAL


def test_what_left_the_store_is_forgotten() -> None:
    reader = BeatReader()
    ages(reader, 0.0, 100.0, stored())
    ages(reader, 1.0, 101.0)
    assert not reader._seen
    ages(reader, 1.0, 101.0, stored())
    reader.forget()
    assert not reader._seen


@given(
    st.permutations(range(4)),
    st.permutations(range(4)),
    st.sets(st.integers(0, 3)),
    st.sampled_from([(), ("new",)]),
)
def test_in_whatever_order_they_come_each_keeps_its_history(
    first: list[int], then: list[int], again: set[int], more: tuple[str, ...]
) -> None:
    def all_of(order: list[int], *numbers: int) -> list[StoredBeat]:
        return [stored(token=f"{name}", age=name, number=numbers[name]) for name in order]

    reader = BeatReader()
    ages(reader, 0.0, 100.0, *all_of(first, 0, 10, 20, 30))
    ages(reader, 1.0, 101.0, *all_of(first, 1, 11, 21, 31))
    # The store's clock has jumped: nothing but what was seen before tells how old they are.
    beats = all_of(then, *(10 * name + 1 + (name in again) for name in range(4)))
    beats += [stored(token=name, stamp=3_999.0) for name in more]
    told = [name + (9.0 if name in again else 10.0) for name in then] + [1.0 for _ in more]
    assert ages(reader, 10.0, 4_000.0, *beats) == told


class Simulation:
    """A worker, a store whose clock jumps and a reader; everything takes its time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.server_offset = 0.0
        self.dies_at = self.random.uniform(20, 200)
        self.row: StoredBeat | None = None
        self.number = 0
        self.false_deaths = self.false_lives = self.looks = 0

    def run(self) -> None:
        reader, published, beat, looked = BeatReader(), 0.0, 0.0, 0.0
        now = 0.0
        while now < 300:
            now += 0.1
            if self.random.random() < 0.003:
                self.server_offset += self.random.choice((-3_600, -30, 30, 3_600))
            if now < self.dies_at:
                if now - beat >= 1.0:
                    beat = now
                if now - published >= INTERVAL * self.random.uniform(0.9, 1.0):
                    published = now
                    self.publish(now - beat, now)
            if self.row is not None and now - looked >= 1.0:
                looked = now
                self.look(reader, now, beat)

    def publish(self, age: float, now: float) -> None:
        self.number += 1
        self.row = stored(number=self.number, age=age, stamp=now + self.server_offset)

    def look(self, reader: BeatReader, now: float, beat: float) -> None:
        assert self.row is not None
        asked = now - self.random.uniform(0, 0.05)
        looked = reader.take(BeatsRead(now + self.server_offset, [self.row]), asked, now, "ours")
        fresh = any(looked.beats.freshness())
        self.looks += 1
        alive = now < self.dies_at
        # A beat is missed when its timeout, an interval, and a period of the reader have passed.
        self.false_deaths += alive and not fresh and not looked.doubtful
        self.false_lives += fresh and now - beat > TIMEOUT + INTERVAL + 1.1


@pytest.mark.parametrize("seed", range(40))
def test_no_live_worker_is_called_dead_and_no_dead_one_alive(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    assert simulation.looks > 250
    assert (simulation.false_deaths, simulation.false_lives) == (0, 0)


def test_a_copy_under_another_key_is_no_second_instance() -> None:
    reader = BeatReader()
    copy = stored(number=5, age=50.0, stamp=90.0)
    assert ages(reader, 0.0, 100.0, copy, stored(), copy) == [0.0]
    # It makes nobody young who has died since, in whatever order they come.
    for now in (40.0, 80.0):
        assert ages(reader, now, 100.0 + now, stored(), copy) == [now]
        assert ages(reader, now, 100.0 + now, copy, stored()) == [now]


def test_nobody_is_in_doubt_for_as_long_as_he_says() -> None:
    reader = BeatReader()
    beat = stored(stamp=1e9)._replace(publish_interval_seconds=1e9)
    first = reader.take(BeatsRead(100.0, [beat]), 0.0, 0.0, "ours")
    assert (first.doubtful, first.doubted) == (1, {"worker"})
    later = reader.take(BeatsRead(200.0, [beat]), 100.0, 100.0, "ours")
    assert (later.doubtful, later.doubted) == (0, frozenset())
    assert later.beats.freshness() == [False]
