"""A process that is told to leave says so for a while before it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cqrs_ddd_health.domain.options import require_seconds
from cqrs_ddd_health.runtime.sigterm import Hold, hold, release

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["SigtermDrain", "drain_on_sigterm"]


class SigtermDrain:
    """What `drain_on_sigterm` returns: it lasts until `close`, or the end of a `with` block."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def close(self) -> None:
        """Put the handler back that was there before. Does nothing the second time.

        Raises:
            DrainError: outside the main thread.
        """
        release(self._hold)

    def __enter__(self) -> Self:
        """Return it: it has begun already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def drain_on_sigterm(
    registry: HealthRegistry, *, delay_seconds: float | None = None
) -> SigtermDrain:
    """Drain `registry` at SIGTERM, and let the signal take its course only after a delay.

    Ready says no at once and live yes, and the process works on, so that whoever watches it can
    send its traffic elsewhere. Then the handler that was there before gets the signal: that of
    uvicorn, of another server, of the loop, or the system's, which ends the process. A second
    SIGTERM goes to it at once, SIGINT always does.

    Best called in the application's lifespan, or wherever a server has its handlers already. One
    that is started later takes SIGTERM for itself until the registry is first asked for a report in
    the main thread. On a loop of another thread, where test clients run a lifespan, no signal comes
    and nothing is done but a warning in the log. Called several times, the longest delay counts.

    Args:
        registry: what is drained.
        delay_seconds: how long the signal is held back; `CQRS_HEALTH_DRAIN_SECONDS` (5) if not
            said, 0 is not at all. Leave the server enough for its own shutdown: after
            `terminationGracePeriodSeconds` (30) Kubernetes kills.

    Raises:
        DrainError: outside the main thread and any loop, or where something else than Python
            handles SIGTERM.
        InvalidOptionError: if the delay is negative or not a number.
    """
    if delay_seconds is None:
        delay_seconds = registry.settings.drain_seconds
    held = Hold(registry.drain, require_seconds("delay_seconds", delay_seconds))
    hold(held)
    return SigtermDrain(held)
