"""A heartbeat store against a model of it: beats, time, clocks that jump, and two readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cqrs_ddd_health import HeartbeatStore, StoredBeat
from cqrs_ddd_health.heartbeats.reader import BeatReader
from cqrs_ddd_health.heartbeats.stores.rows import KEPT_SECONDS, KEPT_TIMEOUTS

__all__ = ["Age", "StoreMachine", "machine_of"]

Key = tuple[str, str, str]
Age = Callable[[float], Coroutine[object, object, None]]
MakeStore = Callable[[], Coroutine[object, object, tuple[HeartbeatStore, Age]]]
"""Makes a store, and what makes all that it holds older by so many seconds of its clock."""

MOMENT_SECONDS = 20.0
"""How much real time a run may take: what is compared is off by as much."""

keys = st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from("xyz"))


@dataclass
class Held:
    """A beat that the store should hold."""

    beat: StoredBeat
    at: float
    """When it was published, on the clock that only goes forward."""


class Look:
    """A reader, and when it first saw each publish."""

    def __init__(self) -> None:
        self.reader = BeatReader()
        self.seen: dict[tuple[Key, int], float] = {}


class StoreMachine(RuleBasedStateMachine):
    """`machine_of` makes one of a store."""

    store: HeartbeatStore
    age: Age

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[Key, Held] = {}
        self.now = 0.0
        self.number = 0
        self.looks = [Look(), Look()]
        self.jumped = False
        self.started = False

    async def make(self) -> tuple[HeartbeatStore, Age]:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.store, self.age = self.runner.run(self.make())
        self.started = True

    @rule(
        published=st.lists(keys, min_size=1, max_size=4, unique=True),
        age=st.sampled_from([0.0, 0.25, 90.0]),
        timeout=st.sampled_from([0.0, 1.0, 60.0]),
        phase=st.sampled_from([None, "busy"]),
        progress=st.sampled_from([None, 0, 7]),
    )
    def publish(
        self,
        published: list[Key],
        age: float,
        timeout: float,
        phase: str | None,
        progress: int | None,
    ) -> None:
        self.number += 1
        beats = [
            StoredBeat(*key, self.number, age, timeout, 0.5, phase, progress) for key in published
        ]
        self.runner.run(self.store.publish(beats))
        self.model |= {beat[:3]: Held(beat, self.now) for beat in beats}

    @rule(key=keys)
    def retire(self, key: Key) -> None:
        self.runner.run(self.store.retire(*key))
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from([0.5, 30.0, 5_000.0, 1e6]))
    def pass_time(self, seconds: float) -> None:
        self.runner.run(self.age(seconds))
        self.now += seconds

    @rule(seconds=st.sampled_from([-3_600.0, -1.0, 1.0, 3_600.0]))
    def jump(self, seconds: float) -> None:
        """The store's clock is set; no time passes."""
        self.runner.run(self.age(seconds))
        self.jumped = True

    @rule(which=st.sampled_from([0, 1]))
    def look(self, which: int) -> None:
        look = self.looks[which]
        read = self.runner.run(self.store.read())
        held = {beat[:3]: beat for beat in read.beats}
        assert read.dropped == 0
        assert held.keys() <= self.model.keys()
        for key in self.model.keys() - held.keys():
            assert self.may_be_pruned(key)
            del self.model[key]
        for key, beat in held.items():
            assert beat._replace(stamp=0.0) == self.model[key].beat
            look.seen.setdefault((key, beat.publish_number), self.now)
        beats = look.reader.take(read, self.now, self.now, "nobody").beats
        found = zip(beats.workers, beats.instances, beats.tokens, strict=True)
        for key, age in zip(found, beats.ages, strict=True):
            self.compare(look, key, age)

    def compare(self, look: Look, key: Key, age: float) -> None:
        held = self.model[key]
        true_age = held.beat.age_seconds + self.now - held.at
        unseen = look.seen[key, held.beat.publish_number] - held.at
        assert age >= true_age - unseen - MOMENT_SECONDS, "too young, and so immortal"
        if not self.jumped:
            assert true_age - MOMENT_SECONDS <= age <= true_age + MOMENT_SECONDS

    def may_be_pruned(self, key: Key) -> bool:
        held = self.model[key]
        kept = KEPT_SECONDS + KEPT_TIMEOUTS * held.beat.timeout_seconds
        silent = self.now - held.at
        others = [other for other in self.model if other[0] == key[0] and other != key]
        return (silent > kept - MOMENT_SECONDS or self.jumped) and bool(others)

    @invariant()
    def some_row_of_each_worker_is_held(self) -> None:
        """An outage must not vanish: whoever was published and not retired has a row."""
        if not self.started:
            return
        held = {beat.worker for beat in self.runner.run(self.store.read()).beats}
        assert held == {key[0] for key in self.model}

    def teardown(self) -> None:
        if self.started:
            self.runner.run(self.store.close())
        self.runner.close()


def machine_of(make: MakeStore) -> type[StoreMachine]:
    """Return the state machine of stores that are made so."""

    class Machine(StoreMachine):
        async def make(self) -> tuple[HeartbeatStore, Age]:
            return await make()

    return Machine
