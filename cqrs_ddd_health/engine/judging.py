"""What an outcome makes of a check: its state, its row, and who is told of a change.

Whatever comes of judging an outcome, there is a row: one that cannot be judged is a failure too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from cqrs_ddd_health.domain.evaluation import Outcome, next_state
from cqrs_ddd_health.domain.outcomes import outcome_of_error
from cqrs_ddd_health.domain.transitions import Transition, transition
from cqrs_ddd_health.runtime.cancellation import is_ctrl_c

from .given_clock import GivenClock
from .single_flight import Slot, row_of

if TYPE_CHECKING:
    from cqrs_ddd_health.domain.protocols import Clock

__all__ = ["Judge"]


class Judge:
    """Judges the outcomes of the checks of one registry. Its owner holds the runner's lock."""

    def __init__(self, clock: Clock, tell: Callable[[Transition, Context], None]) -> None:
        self._now = clock.now
        self._given_clock = clock if isinstance(clock, GivenClock) else None
        self._tell = tell

    def judge(
        self,
        slot: Slot,
        outcome: Outcome,
        began: float,
        ended: float,
        asked_in: Context,
        *,
        counts: bool = True,
        is_last: bool = False,
    ) -> None:
        """Make of the outcome of a run what the check is now.

        One that does not count, of a run that hangs and was seen to once more, changes why the
        check fails, not how often it did. What is raised meanwhile is the next outcome, and the
        last one.
        """
        # In one piece: the hot path of a report cannot afford the calls.
        try:
            at, latency = self._now(), ended - began
            if self._given_clock is not None:
                outcome = _by_clock(outcome, self._given_clock.fault_since(began))
            before, row = slot.state, slot.row
            after = next_state(before, outcome, slot.options, at, counts=counts)
            told: Transition | None = None
            if after is before and row is not None and row.details == outcome.details:
                row = row.measured(at, latency)
            else:
                row = row_of(slot, after, outcome.details, at, latency)
                told = transition(slot.name, slot.kind, before, after, at, latency_seconds=latency)
            # From here on nothing is refused: an outcome that was has changed nothing.
            slot.state, slot.row = after, row
            if counts:
                slot.judged_at = ended
                slot.results.add(ended, after.state, latency)
                slot.tally.add(latency, outcome.kind)
            if told is not None and not slot.gone:
                self._tell(told, asked_in)
        except BaseException as error:
            if is_last:
                raise
            failed = outcome_of_error(error)
            self.judge(slot, failed, began, ended, asked_in, counts=counts, is_last=True)
            if issubclass(type(error), KeyboardInterrupt) and is_ctrl_c():
                raise


def _by_clock(outcome: Outcome, fault: str | None) -> Outcome:
    """Return what a run is worth of which it is not known when it was, or how long it took."""
    if fault is None or outcome.state != "up":
        return outcome
    message = f"the clock that was given {fault}, and the machine's stands in for it"
    return outcome._replace(state="degraded", kind="unavailable", message=message)
