"""The pure rules: from outcomes to states, from beats to a verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import CheckOptions, CheckResult
from cqrs_ddd_health.domain.details import Details
from cqrs_ddd_health.domain.evaluation import (
    SUCCESS,
    Beat,
    CheckState,
    LeftOut,
    Outcome,
    Seen,
    is_fresh,
    next_state,
    worker_outcome,
    worst,
)
from cqrs_ddd_health.domain.models import ComponentState, FailureKind, severity
from cqrs_ddd_health.domain.outcomes import outcome_of, outcome_of_error, timed_out
from cqrs_ddd_health.heartbeats.beat_table import Fleet, FleetNow

from .strategies import component_states

AT = datetime(2026, 1, 1, tzinfo=UTC)
FALSY = Outcome("down", "falsy")
TIMEOUT = Outcome("down", "timeout")
HUNG = Outcome("down", "hung")
SLOW = Outcome("degraded", "reported")
OUTCOMES = st.sampled_from([SUCCESS, SLOW, FALSY, TIMEOUT])
THRESHOLDS = st.integers(1, 4)


def after(outcomes: list[Outcome], failures: int = 1, successes: int = 1) -> list[CheckState]:
    """Return the states after each outcome, one second apart."""
    options = CheckOptions(failure_threshold=failures, success_threshold=successes)
    state: CheckState | None = None
    states: list[CheckState] = []
    for number, outcome in enumerate(outcomes):
        state = next_state(state, outcome, options, AT + timedelta(seconds=number))
        states.append(state)
    return states


def shown(states: list[CheckState]) -> list[str]:
    return [state.state for state in states]


def test_one_failure_takes_down_and_one_success_brings_back() -> None:
    assert shown(after([SUCCESS, FALSY, SUCCESS])) == ["up", "down", "up"]


def test_below_the_failure_threshold_it_is_degraded() -> None:
    states = after([SUCCESS, FALSY, FALSY, FALSY], failures=3)
    assert shown(states) == ["up", "degraded", "degraded", "down"]
    assert [state.failures for state in states] == [0, 1, 2, 3]


def test_a_success_starts_the_count_of_failures_again() -> None:
    states = after([FALSY, SUCCESS, FALSY, FALSY], failures=2)
    assert shown(states) == ["degraded", "up", "degraded", "down"]


def test_below_the_success_threshold_it_stays_down_for_the_same_reason() -> None:
    states = after([FALSY, SUCCESS, SUCCESS, SUCCESS], successes=3)
    assert shown(states) == ["down", "down", "down", "up"]
    assert states[2].failure == states[0].failure
    assert states[3].failure is None


def test_a_failure_starts_the_count_of_successes_again() -> None:
    states = after([FALSY, SUCCESS, FALSY, SUCCESS, SUCCESS], successes=2)
    assert shown(states) == ["down", "down", "down", "down", "up"]


def test_once_down_a_failure_below_the_threshold_keeps_it_down() -> None:
    states = after([FALSY, FALSY, SUCCESS, FALSY], failures=2, successes=2)
    assert shown(states) == ["degraded", "down", "down", "down"]


def test_a_check_may_call_itself_degraded() -> None:
    states = after([SLOW, FALSY, SLOW, SUCCESS])
    assert shown(states) == ["degraded", "down", "degraded", "up"]
    assert states[0].failure is not None
    assert states[0].failure.kind == "reported"


def test_since_is_kept_while_the_state_is() -> None:
    states = after([SUCCESS, SUCCESS, FALSY, TIMEOUT, SUCCESS])
    assert [(state.since - AT).total_seconds() for state in states] == [0, 0, 2, 2, 4]


def test_the_failures_since_is_kept_while_the_reason_is() -> None:
    boom = [Outcome("down", "exception", name) for name in ("OSError", "OSError", "ValueError")]
    states = after([*boom, FALSY, FALSY])
    since = [state.failure.since for state in states if state.failure is not None]
    assert [(moment - AT).total_seconds() for moment in since] == [0, 0, 2, 3, 3]


def test_since_when_it_fails_may_be_known_better() -> None:
    stale = Outcome("down", "stale", failing_since=AT - timedelta(hours=1))
    state = next_state(None, stale, CheckOptions(), AT)
    assert state.since == AT
    assert state.failure is not None
    assert state.failure.since == AT - timedelta(hours=1)


def test_an_up_that_stays_up_is_the_same_object() -> None:
    first, second = after([SUCCESS, SUCCESS])
    assert second is first


def test_what_does_not_count_changes_the_reason_and_not_the_number() -> None:
    options = CheckOptions(failure_threshold=2)
    first = next_state(None, TIMEOUT, options, AT)
    second = next_state(first, HUNG, options, AT + timedelta(seconds=9), counts=False)
    assert (second.state, second.failures, second.since) == ("degraded", 1, AT)
    assert second.failure is not None
    assert second.failure.kind == "hung"
    assert next_state(second, HUNG, options, AT).state == "down"


@given(st.lists(OUTCOMES, min_size=1), THRESHOLDS, THRESHOLDS)
def test_it_is_down_from_enough_failures_until_enough_that_are_none(
    outcomes: list[Outcome], failures: int, successes: int
) -> None:
    down = False
    for end, state in enumerate(after(outcomes, failures, successes), start=1):
        failed = [outcome.state == "down" for outcome in outcomes[:end]]
        if down:
            down = any(failed[-successes:]) or end < successes
        else:
            down = end >= failures and all(failed[-failures:])
        assert (state.state == "down") is down


@given(st.lists(OUTCOMES, min_size=1), THRESHOLDS, THRESHOLDS)
def test_it_has_a_failure_exactly_when_it_is_not_up(
    outcomes: list[Outcome], failures: int, successes: int
) -> None:
    for outcome, state in zip(outcomes, after(outcomes, failures, successes), strict=True):
        assert (state.failure is None) is (state.state == "up")
        assert outcome.state != "down" or state.state != "up"
        assert state.since >= AT


@given(st.lists(OUTCOMES, min_size=1), THRESHOLDS, THRESHOLDS)
def test_a_higher_failure_threshold_never_makes_it_worse(
    outcomes: list[Outcome], failures: int, successes: int
) -> None:
    strict = after(outcomes, failures, successes)
    patient = after(outcomes, failures + 1, successes)
    for worse, better in zip(strict, patient, strict=True):
        assert severity(better.state) <= severity(worse.state)


@given(st.lists(component_states))
def test_worst_is_the_most_severe(states: list[ComponentState]) -> None:
    assert severity(worst(states)) == max(map(severity, states), default=0)
    assert worst(states) == worst(states[::-1])


def beat(age: float = 0.0, timeout: float = 60.0, interval: float = 0.0) -> Beat:
    return Beat("outbox", "a", age, timeout, interval)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_timeout_of_0_is_always_stale(age: float, interval: float) -> None:
    assert not is_fresh(beat(age, 0.0, interval))


@given(st.floats(0, 1e9), st.floats(0, 1e9, exclude_min=True), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_fresh_beat_was_fresh_when_it_was_younger(
    age: float, timeout: float, interval: float, younger: float
) -> None:
    assert is_fresh(beat(age, timeout, interval)) is (age <= timeout + interval)
    if is_fresh(beat(age, timeout, interval)):
        assert is_fresh(beat(min(age, younger), timeout, interval))


def test_a_beat_as_old_as_its_timeout_is_fresh() -> None:
    assert is_fresh(beat(60.0))
    assert not is_fresh(beat(60.001))
    assert is_fresh(beat(65.0, 60.0, 5.0))


def seen(*beats: Beat) -> Seen:
    return FleetNow.of(Fleet(), 0.0, beats).seen("outbox", ())


@given(st.lists(st.floats(0, 200).map(beat), max_size=5), st.integers(1, 5), st.booleans())
def test_a_worker_is_up_exactly_when_enough_instances_are_fresh(
    beats: list[Beat], least: int, in_grace: bool
) -> None:
    outcome = worker_outcome(seen(*beats), least, in_grace=in_grace)
    fresh = sum(map(is_fresh, beats))
    assert (outcome.state == "up") is (fresh >= least)
    assert (outcome.kind is None) is (outcome.state == "up")
    assert outcome.details == Details(
        {"instances": len(beats), "fresh": fresh, "min_instances": least}
    )


def test_a_worker_that_never_beat_is_pending_and_then_missing() -> None:
    assert worker_outcome(seen(), 1, in_grace=True).kind == "pending"
    assert worker_outcome(seen(), 1, in_grace=False).kind == "missing"


@pytest.mark.parametrize(
    ("left_out", "beats", "kind"),
    [
        ("the dead", [], "unavailable"),
        ("the living", [], "unavailable"),
        ("the dead", [beat()], "unavailable"),
        ("the living", [beat()], "unavailable"),
        ("the dead", [beat(61.0)], "stale"),
        ("the dead", [beat(), beat(61.0)], "stale"),
        ("the living", [beat(), beat(61.0)], "unavailable"),
        ("the living", [beat(), beat()], None),
    ],
)
def test_while_some_were_left_out_nobody_is_dead_who_was_not_seen_to_die(
    left_out: LeftOut, beats: list[Beat], kind: FailureKind | None
) -> None:
    outcome = worker_outcome(seen(*beats), 2, in_grace=False, left_out=left_out)
    assert outcome.kind == kind
    assert outcome.state == {"stale": "down", "unavailable": "degraded", None: "up"}[kind]


def test_more_instances_may_be_among_those_that_were_left_out() -> None:
    outcome = worker_outcome(seen(beat()), 1, in_grace=False, instances=2, left_out="the dead")
    assert (outcome.state, outcome.kind) == ("degraded", "unavailable")


def test_too_few_instances_are_missing_and_old_ones_are_stale() -> None:
    few = worker_outcome(seen(beat(1.0)), 2, in_grace=False)
    assert (few.kind, few.message) == ("missing", "1 of at least 2 instances are there")
    stale = worker_outcome(seen(beat(90.0), beat(61.0)), 1, in_grace=False)
    assert (stale.kind, stale.message) == (
        "stale",
        (
            "0 of at least 1 instances are fresh, the next one's last beat is 61.0 s old, "
            "its timeout 60 s"
        ),
    )
    half = worker_outcome(seen(beat(600.0), beat(1.0)), 2, in_grace=False)
    assert half.message == (
        "1 of at least 2 instances are fresh, the next one's last beat is 600.0 s old, "
        "its timeout 60 s"
    )


def test_no_worker_is_up_without_a_beat() -> None:
    assert worker_outcome(seen(), 0, in_grace=False).state == "down"


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [True, 1, "yes", [0]])
def test_anything_true_is_a_success(value: object) -> None:
    assert outcome_of(value) is SUCCESS


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (0, "int"), ([], "list")])
def test_anything_false_is_a_failure_that_names_its_type(value: object, name: str) -> None:
    assert outcome_of(value) == Outcome("down", "falsy", message=f"it returned {name}")


def test_a_result_says_its_own_state() -> None:
    assert outcome_of(CheckResult(details={"a": {1}})) == Outcome("up", details=Details({"a": [1]}))
    said = outcome_of(CheckResult(state="degraded", message="slow\n" * 500))
    assert (said.state, said.kind) == ("degraded", "reported")
    assert said.message is not None
    assert len(said.message) == 500
    assert outcome_of(CheckResult(state="down")) == Outcome("down", "reported")


def test_what_was_raised_is_its_class_and_its_words() -> None:
    assert outcome_of_error(OSError("gone\x00")) == Outcome("down", "exception", "OSError", "gone ")
    assert outcome_of_error(ValueError()) == Outcome("down", "exception", "ValueError")
    assert outcome_of_error(SystemExit(3)) == Outcome("down", "exception", "SystemExit", "3")


def test_an_error_that_cannot_be_printed_is_still_named() -> None:
    assert outcome_of_error(MuteError()) == Outcome("down", "exception", "MuteError")


def test_an_error_of_no_name_is_unnamed() -> None:
    nameless: type[Exception] = type("", (Exception,), {})
    assert outcome_of_error(nameless()).exception_type == "unnamed"


def test_a_timeout_says_how_long_it_waited() -> None:
    assert timed_out(0.5) == Outcome("down", "timeout", message="no answer within 0.5 s")
