"""What every store that processes share has to do, beyond what its protocol asks for."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import pytest

from cqrs_ddd_health import HeartbeatStore, StoredBeat

from .beats import NAMES, beat, loop_in_thread, numbers

__all__ = ["SharedStoreCases"]


class _Place(Protocol):
    def store(self, namespace: str = "") -> HeartbeatStore: ...


class SharedStoreCases:
    """To be run where a fixture `place` opens any number of stores on one server."""

    async def test_names_that_could_be_taken_for_each_other_are_kept_apart(
        self, place: _Place
    ) -> None:
        store = place.store()
        published = [beat(name, other, name) for name in NAMES for other in NAMES]
        await store.publish(published)
        read = await store.read()
        assert sorted(held[:3] for held in read.beats) == sorted(sent[:3] for sent in published)
        assert read.dropped == 0
        for name in NAMES:
            await store.retire(name, "a", name)
        assert len((await store.read()).beats) == len(published) - len(NAMES)

    @pytest.mark.parametrize("name", ["}", "{", "a}:beats", " ", "*", "%", "'"])
    async def test_stores_with_another_namespace_see_nothing_of_it(
        self, place: _Place, name: str
    ) -> None:
        ours, others = place.store(), place.store(name)
        await ours.publish([beat()])
        assert (await others.read()).beats == []
        await others.publish([beat(publish_number=7)])
        await others.retire("worker", "instance", "token")
        assert numbers(await ours.read()) == {("worker", "instance", "token"): 1}

    async def test_an_empty_publish_says_nothing(self, place: _Place) -> None:
        store = place.store()
        await store.publish([])
        assert (await store.read()).beats == []

    async def test_the_later_of_two_beats_in_one_batch_is_held(self, place: _Place) -> None:
        store = place.store()
        await store.publish([beat(), beat("other"), beat(publish_number=2)])
        assert numbers(await store.read())["worker", "instance", "token"] == 2

    @pytest.mark.parametrize("name", ["w", "🩺" * 128])
    async def test_all_that_a_beat_says_is_kept_to_the_last_digit(
        self, place: _Place, name: str
    ) -> None:
        store = place.store()
        sent = StoredBeat(name, name, name, 2**53 - 1, 0.1 + 0.2, 1 / 3, 1e-9, name, 2**53 - 1)
        await store.publish([sent, sent._replace(worker="long", timeout_seconds=1e10)])
        read = await store.read()
        held = {found.worker: found for found in read.beats}
        assert held[name]._replace(stamp=0.0) == sent
        assert held["long"].timeout_seconds == 1e10
        assert read.dropped == 0

    async def test_seconds_that_are_whole_are_seconds_all_the_same(self, place: _Place) -> None:
        store = place.store()
        await store.publish([StoredBeat("worker", "instance", "token", 1, 0, 60, 5)])
        (held,) = (await store.read()).beats
        assert held[3:7] == (1, 0.0, 60.0, 5.0)

    async def test_eight_writers_of_the_same_beats_do_not_fail_each_other(
        self, place: _Place
    ) -> None:
        async def write(writer: int) -> None:
            store = place.store()
            for number in range(12):
                batch = [
                    beat(f"worker {row % 5}", f"{row}", token, number)
                    for row in range(40)
                    for token in ("shared", f"of {writer}")
                ]
                random.shuffle(batch)
                await store.publish(batch)
                await store.retire("worker 0", "0", f"of {writer}")

        await asyncio.gather(*(write(writer) for writer in range(8)))
        read = await place.store().read()
        assert (len(read.beats), read.dropped) == (40 + 8 * 39, 0)
        assert set(numbers(read).values()) == {11}

    async def test_the_clock_is_there_without_any_beat(self, place: _Place) -> None:
        store = place.store()
        first, second = await store.read(), await store.read()
        assert 0 < first.server_now <= second.server_now
        assert (first.beats, first.dropped) == ([], 0)

    async def test_two_loops_have_a_connection_each_and_close_ends_both(
        self, place: _Place
    ) -> None:
        store = place.store()
        with loop_in_thread() as loop:
            await asyncio.gather(
                store.publish([beat("here")]), loop.run(store.publish([beat("there")]))
            )
            read = await loop.run(store.read())
            assert {held.worker for held in read.beats} == {"here", "there"}
            await store.close()
        assert len((await store.read()).beats) == 2
