"""How old the beats in a shared store are, whatever its clock and ours do.

A process publishes how old its beat is, and the store stamps when it took that. Clocks jump, so a
stamp alone may make a live worker dead or a dead one live. A reader that looks again and again
also knows when, by its own monotonic clock, it first saw each publish, and that bounds the age
from both sides:

- `first`, the age when published and the time since by the store's clock;
- `low`, that age and the time since this publish was first seen: it cannot be younger;
- `high`, that age and the time since the look before: it cannot be older, once a new publish was
  seen to take the place of an earlier one.

The age is `min(max(first, low), high)`. A beat that is new to us has only `first`, and a stamp from
the future makes that too young: it is not believed before a new publish was seen, and one whose
publisher has not published for two intervals is of a process that is gone.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cqrs_ddd_health.evaluation import Beat
from cqrs_ddd_health.protocols import BeatsRead, StoredBeat

__all__ = ["BeatReader", "Looked"]

_Key: TypeAlias = "tuple[str, str, str]"


class _Seen(NamedTuple):
    """When a publish was first seen, and when the store was looked at before that."""

    publish_number: int
    at: float
    before: float | None
    """None if no earlier publish of it is known: nothing bounds its age from above then."""
    doubtful: bool
    """Whether its stamp was in the future when it was first seen."""


class Looked(NamedTuple):
    """What one look at the store brought."""

    beats: list[Beat]
    doubtful: int
    """How many beats more there are whose age cannot be told yet."""


class BeatReader:
    """Remembers of each beat when it was seen to change. All times are our monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[_Key, _Seen] = {}
        self._looked_at: float | None = None

    def take(self, read: BeatsRead, began: float, now: float, own_token: str) -> Looked:
        """Return the beats of other processes, as old as they are at `now`.

        `began` is when the store was asked, `now` when it had answered.
        """
        seen: dict[_Key, _Seen] = {}
        beats: list[Beat] = []
        doubtful = 0
        for stored in read.beats:
            if stored.token == own_token:
                continue  # of these we know better
            key = (stored.worker, stored.instance, stored.token)
            last = self._seen.get(key)
            if last is None:
                doubt = stored.stamp > read.server_now
                last = _Seen(stored.publish_number, now, None, doubt)
            elif last.publish_number != stored.publish_number:
                last = _Seen(stored.publish_number, now, self._looked_at, doubtful=False)
            seen[key] = last
            if last.doubtful:
                age = _age_from_the_future(stored, now - last.at)
            else:
                age = _age(stored, read.server_now, last, now)
            if age is None:
                doubtful += 1
            else:
                beats.append(_beat(stored, age))
        self._seen = seen
        self._looked_at = began
        return Looked(beats, doubtful)

    def forget(self) -> None:
        """Start anew in a forked child, or after the store was exchanged."""
        self._seen = {}
        self._looked_at = None


def _age(stored: StoredBeat, server_now: float, seen: _Seen, now: float) -> float:
    age = stored.age_seconds
    first = age + max(server_now - stored.stamp, 0.0)
    low = age + max(now - seen.at, 0.0)
    if seen.before is None:
        return max(first, low)
    return min(max(first, low), age + max(now - seen.before, 0.0))


def _age_from_the_future(stored: StoredBeat, elapsed: float) -> float | None:
    interval = stored.publish_interval_seconds
    if elapsed < 2 * interval:
        return None
    return max(stored.age_seconds, stored.timeout_seconds) + interval + elapsed


def _beat(stored: StoredBeat, age: float) -> Beat:
    return Beat(
        stored.worker,
        stored.instance,
        age,
        stored.timeout_seconds,
        stored.publish_interval_seconds,
        stored.phase,
        stored.progress,
        local=False,
        token=stored.token,
    )
