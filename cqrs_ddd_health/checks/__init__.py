"""The checks that come with the library. None of them imports the client that it is given.

Beyond its threshold a check of a resource (disk, memory, event loop, pool) is down, and so is one
of migrations; register it with `critical=False` to have it only degrade the report.

Each is imported when it is first used: a process has few kinds of them.
"""

from __future__ import annotations

from cqrs_ddd_health.runtime.lazy import imported

TYPE_CHECKING = False  # as that of typing, which type checkers know too, without its import

if TYPE_CHECKING:
    from .broker import MessageBrokerHealthCheck as MessageBrokerHealthCheck
    from .callable import Check as Check
    from .database import DatabaseHealthCheck as DatabaseHealthCheck
    from .disk import DiskSpaceHealthCheck as DiskSpaceHealthCheck
    from .event_loop import EventLoopLagHealthCheck as EventLoopLagHealthCheck
    from .http import HttpHealthCheck as HttpHealthCheck
    from .memory import MemoryHealthCheck as MemoryHealthCheck
    from .migrations import AlembicHealthCheck as AlembicHealthCheck
    from .pool import PoolSaturationHealthCheck as PoolSaturationHealthCheck
    from .redis import RedisHealthCheck as RedisHealthCheck
    from .tcp import TcpHealthCheck as TcpHealthCheck

_MODULES = {
    "AlembicHealthCheck": "migrations",
    "Check": "callable",
    "DatabaseHealthCheck": "database",
    "DiskSpaceHealthCheck": "disk",
    "EventLoopLagHealthCheck": "event_loop",
    "HttpHealthCheck": "http",
    "MemoryHealthCheck": "memory",
    "MessageBrokerHealthCheck": "broker",
    "PoolSaturationHealthCheck": "pool",
    "RedisHealthCheck": "redis",
    "TcpHealthCheck": "tcp",
}

__all__ = [
    "AlembicHealthCheck",
    "Check",
    "DatabaseHealthCheck",
    "DiskSpaceHealthCheck",
    "EventLoopLagHealthCheck",
    "HttpHealthCheck",
    "MemoryHealthCheck",
    "MessageBrokerHealthCheck",
    "PoolSaturationHealthCheck",
    "RedisHealthCheck",
    "TcpHealthCheck",
]


if not TYPE_CHECKING:  # a type checker knows all names, and then finds those that are wrong

    def __getattr__(name: str) -> object:
        return imported(globals(), _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
