"""Are there connections left in the application's pool."""

from __future__ import annotations

from typing import Protocol, cast

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_share
from cqrs_ddd_health.errors import InvalidCheckError

__all__ = ["PoolSaturationHealthCheck"]


class _Pooled(Protocol):
    @property
    def pool(self) -> object: ...


class _QueuePool(Protocol):
    def size(self) -> int: ...
    def checkedout(self) -> int: ...


class PoolSaturationHealthCheck:
    """Is down when the share `max_used` of the connections of `engine` is in use (0.9 by default).

    `engine` is SQLAlchemy's, sync or async; the share is that of checked-out connections of its
    pool's size and overflow together. It counts and never connects.

    Register it with `critical=False` to have it only degrade the report.

    Raises:
        InvalidCheckError: if the engine has no pool, or one that never refuses a connection:
            `NullPool`, `StaticPool`, `max_overflow=-1`, `pool_size=0`.
        InvalidOptionError: if `max_used` is not more than 0 and at most 1.
    """

    loop_bound = False  # it holds nothing that belongs to a loop

    def __init__(self, engine: _Pooled, *, max_used: float = 0.9) -> None:
        self._max_used = require_share("max_used", max_used)
        self._engine = engine
        pool: object = getattr(engine, "pool", None)
        capacity = _capacity(pool)
        if capacity is None:
            raise InvalidCheckError(
                f"the {type(pool).__name__} of the {type(engine).__name__} has no bound that it "
                "could come near to; give an engine with a QueuePool, pool_size > 0 and "
                "max_overflow >= 0"
            )
        self._capacity = capacity

    async def __call__(self) -> bool:
        """Return whether there are connections left; whatever the pool raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return how many connections are in use, and of how many."""
        pool = cast("_QueuePool", self._engine.pool)  # each time: dispose() replaces it
        checked_out, capacity = pool.checkedout(), self._capacity
        used = checked_out / capacity
        details = {"checked_out": checked_out, "capacity": capacity, "used": used}
        if used < self._max_used:
            return CheckResult(details=details)
        message = f"{self._max_used:.0%} of the pool's connections or more are in use"
        return CheckResult(state="down", details=details, message=message)


def _capacity(pool: object) -> int | None:
    """Return how many connections may be out at once, None if there is no end to it."""
    # SQLAlchemy keeps the bound to itself; -1 stands for none, whatever it was said by.
    overflow: object = getattr(pool, "_max_overflow", None)
    if not isinstance(overflow, int) or overflow < 0:
        return None
    return cast("_QueuePool", pool).size() + overflow
