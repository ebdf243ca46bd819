"""What is said of workers, where several look at once and nobody looked for a while."""

from __future__ import annotations

import threading
from contextvars import Context
from datetime import UTC, datetime

from cqrs_ddd_health.domain.evaluation import Beat
from cqrs_ddd_health.domain.models import Probe
from cqrs_ddd_health.domain.transitions import Transition
from cqrs_ddd_health.heartbeats.beat_table import Fleet, Others
from cqrs_ddd_health.heartbeats.workers import Workers, WorkersView

NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)


def workers(
    *, max_records: int = 10, max_workers: int = 10, told: list[Transition] | None = None
) -> Workers:
    def tell(transition: Transition, _: Context) -> None:
        if told is not None:
            told.append(transition)

    return Workers(
        timeout_seconds=60.0, max_records=max_records, max_workers=max_workers, tell=tell
    )


def expect(judge: Workers, worker: str, *, stall_seconds: float | None = None) -> None:
    judge.expect(
        worker,
        min_instances=1,
        probes=None,
        grace_seconds=None,
        critical=False,
        instances=None,
        stall_seconds=stall_seconds,
        now=0.0,
    )


def beat(instance: str, age: float, timeout: float, *, worker: str = "outbox") -> Beat:
    return Beat(worker, instance, age, timeout, phase="busy", local=False, token=instance)


def view_that_waits(judge: Workers, found: list[WorkersView]) -> threading.Thread:
    """Return a thread that looks, and has come as far as it can while we hold the lock."""
    entered = threading.Event()

    class Own(list[Beat]):
        def __bool__(self) -> bool:
            entered.set()
            return False

    thread = threading.Thread(target=lambda: found.append(judge.view(Own(), 1.0, NOON)))
    thread.start()
    assert entered.wait(10)
    return thread


def test_a_worker_that_is_retired_while_somebody_looks_is_not_missing() -> None:
    told: list[Transition] = []
    judge, found = workers(told=told), list[WorkersView]()
    expect(judge, "relay")
    with judge._lock:
        thread = view_that_waits(judge, found)
        threading.Event().wait(0.05)  # it is judged after that, or the test proves nothing
        judge.retire("relay")
    thread.join(10)
    assert [view.rows for view in found] == [()]
    assert told == []


def test_a_worker_that_is_expected_while_somebody_looks_changes_once() -> None:
    told: list[Transition] = []
    judge, found = workers(told=told), list[WorkersView]()
    with judge._lock:
        thread = view_that_waits(judge, found)
        threading.Event().wait(0.05)
        expect(judge, "relay")
        judge.view([], 1.0, NOON)
    thread.join(10)
    assert [row.name for row in found[0].rows] == ["relay"]
    assert [transition.name for transition in told] == ["relay"]


def test_the_youngest_beat_is_that_which_is_younger_now() -> None:
    beats = [beat("live", 50.0, 60.0), beat("dead", 20.0, 10.0), beat("long dead", 900.0, 10.0)]
    view = workers(max_records=1).view([], 0.0, NOON, others=Others(Fleet().joined(beats), 100.0))
    assert [(record.instance, record.state, record.age_seconds) for record in view.records] == [
        ("long dead", "down", 1_000.0),
        ("live", "up", 60.0),
    ]


def test_of_equally_bad_ones_the_first_is_shown_first() -> None:
    beats = [beat(f"{number}", 5.0, 60.0) for number in range(100)]
    view = workers(max_records=99).view([], 0.0, NOON, others=Others(Fleet().joined(beats)))
    assert [record.instance for record in view.records] == [f"{number}" for number in range(100)]


def test_nothing_is_kept_of_a_worker_that_is_gone() -> None:
    judge = workers()
    expect(judge, "outbox", stall_seconds=30.0)
    judge.view([], 0.0, NOON, others=Others(Fleet().joined([beat("one", 0.0, 60.0)])))
    assert judge._progress
    judge.retire("outbox")
    judge.view([], 1.0, NOON)
    assert not judge._progress
    assert not judge._states


# --- names that somebody made up


def named(*ages: tuple[str, float]) -> Others:
    beats = [beat(name, age, 60.0, worker=name) for name, age in ages]
    return Others(Fleet().joined(beats))


def names(view: WorkersView) -> list[str]:
    return [row.name for row in view.rows]


def test_of_too_many_workers_the_worst_have_a_row_and_those_that_somebody_expects() -> None:
    judge = workers(max_workers=2)
    expect(judge, "expected")
    expect(judge, "never seen")
    own = [beat("ours", 1.0, 60.0, worker="ours")._replace(local=True)]
    others = named(
        *(("fresh", 1.0), ("dead", 100.0), ("expected", 2.0)),
        *(("long dead", 900.0), ("just dead", 61.0), ("other", 5.0)),
    )
    view = judge.view(own, 0.0, NOON, others=others)
    assert sorted(names(view)) == ["dead", "expected", "long dead", "never seen", "ours"]
    assert sorted(view.places) == sorted(names(view))
    assert view.omitted_workers == view.omitted == 3
    assert {record.worker for record in view.records} == set(names(view))


def test_of_those_that_are_well_the_same_are_shown_again() -> None:
    told: list[Transition] = []
    judge = workers(max_workers=2, told=told)
    judge.view([], 0.0, NOON, others=named(("b", 1.0), ("c", 2.0)))
    others = named(*((name, float(place)) for place, name in enumerate("fedcba")))
    assert sorted(names(judge.view([], 0.0, NOON, others=others))) == ["b", "c"]
    assert [transition.name for transition in told] == ["b", "c"]
    # Two under one name come before those that are well; and what is dead before these.
    twice = [beat("a", 1.0, 60.0, worker="a")._replace(token=token) for token in "12"]
    more = Others(others.beats.joined(twice))
    assert sorted(names(judge.view([], 0.0, NOON, others=more))) == ["a", "b"]
    more = Others(others.beats.joined([*twice, beat("z", 61.0, 60.0, worker="z")]))
    assert sorted(names(judge.view([], 0.0, NOON, others=more))) == ["a", "z"]
    assert set(judge._states) == {"a", "z"}


def test_where_only_some_are_asked_for_no_other_is_judged() -> None:
    told: list[Transition] = []
    judge = workers(told=told)
    expect(judge, "expected")
    own = [beat("ours", 1.0, 60.0, worker="ours")._replace(local=True)]
    others = named(("other", 1.0), ("expected", 2.0))
    view = judge.view(own, 0.0, NOON, others=others, only={"expected", "nobody"})
    assert names(view) == [record.worker for record in view.records] == ["expected"]
    assert (view.omitted, view.omitted_workers) == (0, 0)
    assert judge.view(own, 0.0, NOON, others=others, only=frozenset())[:2] == ((), ())
    assert [transition.name for transition in told] == ["expected"]


def test_who_gates_what() -> None:
    judge = workers()
    local, shared = (
        beat(name, 1.0, 60.0, worker=name)._replace(local=name == "ours")
        for name in ("ours", "theirs")
    )
    assert judge.gating("ready", [local, shared]) == {"ours"}
    assert judge.gating("live", [local, shared]) == set()
    said: dict[str, tuple[Probe, ...] | None]
    said = {"ours": (), "theirs": ("live", "ready"), "other": None}
    for name, probes in said.items():
        judge.expect(
            name,
            min_instances=1,
            probes=probes,
            grace_seconds=None,
            critical=True,
            instances=None,
            stall_seconds=None,
            now=0.0,
        )
    assert judge.gating("ready", [local, shared]) == {"theirs"}
    assert judge.gating("live", [local, shared]) == {"theirs"}
    expect(judge, "theirs")  # which is not critical
    assert judge.gating("live", [local, shared]) == set()
