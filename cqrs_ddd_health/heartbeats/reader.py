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
from cqrs_ddd_health.protocols import BeatsRead

__all__ = ["BeatReader", "Looked"]

_Key: TypeAlias = "tuple[str, str, str]"


_Seen: TypeAlias = "tuple[int, float, float | None, bool]"
"""A publish number, when that publish was first seen, when the store was looked at before that, and
whether its stamp was in the future then. Without a look before, nothing bounds the age from above.
A plain tuple: of these the garbage collector keeps no account."""


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
        server_now, known = read.server_now, self._seen
        for stored in read.beats:  # ten thousand times in a report: each call here can be felt
            worker, instance, token, number, age, timeout, interval, phase, progress, stamp = stored
            if token == own_token:
                continue  # of these we know better
            key = worker, instance, token
            last = known.get(key)
            if last is None or last[0] != number:
                last = self._first_seen(number, now, last, is_ahead=stamp > server_now)
            seen[key] = last
            _, at, before, is_doubtful = last
            if is_doubtful:
                elapsed = now - at
                if elapsed < 2 * interval:
                    doubtful += 1
                    continue
                age = max(age, timeout) + interval + elapsed
            else:
                age += _elapsed(server_now - stamp, now - at, before, now)
            beat = (worker, instance, age, timeout, interval, phase, progress, False, token)
            beats.append(Beat._make(beat))
        self._seen = seen
        self._looked_at = began
        return Looked(beats, doubtful)

    def _first_seen(self, number: int, now: float, last: _Seen | None, *, is_ahead: bool) -> _Seen:
        if last is None:
            return number, now, None, is_ahead
        return number, now, self._looked_at, False

    def forget(self) -> None:
        """Start anew in a forked child, or after the store was exchanged."""
        self._seen = {}
        self._looked_at = None


def _elapsed(first: float, low: float, before: float | None, now: float) -> float:
    """Return how long ago it was published: at least `low`, which is not negative."""
    oldest = max(first, low)
    if before is not None and oldest > now - before:
        return max(now - before, 0.0)
    return oldest
