"""Beats by column: what is told of ten thousand at once is what is told of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health.domain.evaluation import Beat, is_fresh
from cqrs_ddd_health.heartbeats.beat_table import Fleet, FleetNow, Roster

SECONDS = st.sampled_from([0.0, 0.5, 60.0, 60.5, 1e9])
BEATS = st.lists(
    st.builds(
        Beat,
        worker=st.just("outbox"),
        instance=st.sampled_from("abc"),
        age_seconds=SECONDS,
        timeout_seconds=SECONDS,
        publish_interval_seconds=SECONDS,
        local=st.booleans(),
        token=st.sampled_from("xy"),
    )
)


def beats_of(fleet: Fleet) -> list[Beat]:
    return [fleet.beat(place) for place in range(len(fleet.ages))]


@given(BEATS, BEATS)
def test_it_holds_what_was_put_in(some: list[Beat], more: list[Beat]) -> None:
    fleet = Fleet().joined(some).joined(more)
    assert beats_of(fleet) == [*some, *more]
    backwards = range(len(some) + len(more))[::-1]
    assert beats_of(fleet.picked(backwards)) == [*some, *more][::-1]


@given(BEATS)
def test_each_is_as_fresh_as_it_is_alone(beats: list[Beat]) -> None:
    assert Fleet().joined(beats).freshness() == list(map(is_fresh, beats))


@given(BEATS, BEATS, SECONDS)
def test_what_nobody_looked_at_grows_older_but_not_stale(
    others: list[Beat], own: list[Beat], seconds: float
) -> None:
    now = FleetNow.of(Fleet().joined(others), seconds, own)
    found = beats_of(now.fleet)
    assert list(now.fresh) == [is_fresh(beat) for beat in (*others, *own)]
    for was, beat in zip(others, found, strict=False):
        limit = was.timeout_seconds + was.publish_interval_seconds
        full = was.age_seconds + seconds
        assert is_fresh(beat) is is_fresh(was)
        assert beat == was._replace(age_seconds=min(full, limit) if is_fresh(was) else full)
    assert found[len(others) :] == own


@given(BEATS)
def test_what_is_seen_of_a_worker(beats: list[Beat]) -> None:
    places = range(len(beats))
    seen = FleetNow.of(Fleet(), 0.0, beats).seen("outbox", places)
    living = [beat for beat in beats if is_fresh(beat)]
    stale = [beat for beat in beats if not is_fresh(beat)]
    tokens = {name: {beat.token for beat in living if beat.instance == name} for name in "abc"}
    assert (seen.instances, seen.fresh) == (len(beats), len(living))
    assert seen.here == sum(beat.local for beat in living)
    assert list(seen.doubles) == [name for name in "abc" if len(tokens[name]) > 1]
    assert list(seen.stuck) == [name for name in "abc" if tokens[name]]
    if seen.late is None:
        assert not stale
    else:
        assert seen.late in stale
        assert seen.late.age_seconds == min(beat.age_seconds for beat in stale)


@given(BEATS, BEATS)
def test_who_is_there_is_told_anew_if_it_has_changed(before: list[Beat], now: list[Beat]) -> None:
    known, fleet = Roster().of(Fleet().joined(before)), Fleet().joined(now)
    assert known.of(fleet) == Roster().of(fleet)
    assert known.of(Fleet().joined(before)) is known


@given(BEATS, st.integers(1, 10))
def test_of_too_many_the_fresh_come_first_then_the_expected_and_the_young(
    beats: list[Beat], most: int
) -> None:
    some = [beat._replace(worker=f"{place % 3}") for place, beat in enumerate(beats)]
    found = beats_of(Fleet().joined(some).most_wanted(most, ("1",)))

    def rank(beat: Beat) -> tuple[bool, bool, float]:
        return not is_fresh(beat), beat.worker != "1", beat.age_seconds

    assert len(found) == min(most, len(some))
    assert sorted(map(rank, found)) == sorted(map(rank, some))[:most]


@given(BEATS)
def test_those_of_some_workers(beats: list[Beat]) -> None:
    some = [beat._replace(worker=f"{place % 3}") for place, beat in enumerate(beats)]
    fleet = Fleet().joined(some)
    assert beats_of(fleet.of({"0", "2"})) == [beat for beat in some if beat.worker != "1"]
    assert beats_of(fleet.of(())) == []
