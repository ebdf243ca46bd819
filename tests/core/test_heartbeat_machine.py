"""The memory store against a model of it, and what the model finds in stores that are broken."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from cqrs_ddd_health import HeartbeatStore, MemoryHeartbeatStore
from cqrs_ddd_health.testing import FakeClock
from tests.core.test_heartbeat_stores import (
    ForgetsAnOutage,
    KeepsTheFirstBeat,
    NeverRetires,
    PlainStore,
    RenewsWithoutABeat,
    StampsWithTheWorkersClock,
)
from tests.examples import examples
from tests.heartbeat_machine import Age, StoreMachine, machine_of

SETTINGS = settings(max_examples=examples(60), stateful_step_count=30, report_multiple_bugs=False)

# It ends with the first example that fails, and one in fifty times sixty would not be enough.
UNSHRUNK = settings(SETTINGS, max_examples=1_000, phases=[Phase.generate], database=None)


async def make_memory() -> tuple[HeartbeatStore, Age]:
    clock = FakeClock()

    async def age(seconds: float) -> None:
        clock.advance(seconds)

    return MemoryHeartbeatStore(clock=clock), age


TestMemory = machine_of(make_memory).TestCase
TestMemory.settings = SETTINGS


def made(broken: type[PlainStore]) -> type[StoreMachine]:
    async def make() -> tuple[HeartbeatStore, Age]:
        store = broken()

        async def age(seconds: float) -> None:
            store.clock += seconds

        return store, age

    return machine_of(make)


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsAnOutage,
        KeepsTheFirstBeat,
        NeverRetires,
        RenewsWithoutABeat,
        StampsWithTheWorkersClock,
    ],
)
def test_a_store_that_is_broken_on_purpose_is_found(broken: type[PlainStore]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(made(broken), settings=UNSHRUNK)
