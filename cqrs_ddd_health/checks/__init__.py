"""The checks that come with the library. None of them imports the client that it is given.

Beyond its threshold a check of a resource (disk, memory, event loop, pool) is down, and so is one
of migrations; register it with `critical=False` to have it only degrade the report.
"""

from .broker import MessageBrokerHealthCheck
from .callable import Check
from .database import DatabaseHealthCheck
from .disk import DiskSpaceHealthCheck
from .event_loop import EventLoopLagHealthCheck
from .http import HttpHealthCheck
from .memory import MemoryHealthCheck
from .migrations import AlembicHealthCheck
from .pool import PoolSaturationHealthCheck
from .redis import RedisHealthCheck
from .tcp import TcpHealthCheck

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
