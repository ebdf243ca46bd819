"""Is the service healthy, and if not, what broke: checks, worker heartbeats, one typed report.

The names below are imported when they are first used; until then this package costs nothing.
"""

from __future__ import annotations

from .lazily import imported

TYPE_CHECKING = False  # as that of typing, which type checkers know too, without its import

if TYPE_CHECKING:
    from .checks import AlembicHealthCheck as AlembicHealthCheck
    from .checks import Check as Check
    from .checks import DatabaseHealthCheck as DatabaseHealthCheck
    from .checks import DiskSpaceHealthCheck as DiskSpaceHealthCheck
    from .checks import EventLoopLagHealthCheck as EventLoopLagHealthCheck
    from .checks import HttpHealthCheck as HttpHealthCheck
    from .checks import MemoryHealthCheck as MemoryHealthCheck
    from .checks import MessageBrokerHealthCheck as MessageBrokerHealthCheck
    from .checks import PoolSaturationHealthCheck as PoolSaturationHealthCheck
    from .checks import RedisHealthCheck as RedisHealthCheck
    from .checks import TcpHealthCheck as TcpHealthCheck
    from .draining import drain_on_sigterm as drain_on_sigterm
    from .errors import BlockingCallError as BlockingCallError
    from .errors import DrainError as DrainError
    from .errors import DuplicateNameError as DuplicateNameError
    from .errors import HealthError as HealthError
    from .errors import InvalidCheckError as InvalidCheckError
    from .errors import InvalidNameError as InvalidNameError
    from .errors import InvalidOptionError as InvalidOptionError
    from .errors import ServerError as ServerError
    from .errors import SettingsError as SettingsError
    from .errors import UnknownNameError as UnknownNameError
    from .health_server import HealthServer as HealthServer
    from .heartbeat_file import HeartbeatFile as HeartbeatFile
    from .heartbeats import MemoryHeartbeatStore as MemoryHeartbeatStore
    from .history import PastResult as PastResult
    from .models import CheckResult as CheckResult
    from .models import ComponentStatus as ComponentStatus
    from .models import Failure as Failure
    from .models import HealthReport as HealthReport
    from .models import HeartbeatRecord as HeartbeatRecord
    from .models import ServiceInfo as ServiceInfo
    from .options import CheckOptions as CheckOptions
    from .protocols import BeatsRead as BeatsRead
    from .protocols import Clock as Clock
    from .protocols import HealthCheck as HealthCheck
    from .protocols import HeartbeatStore as HeartbeatStore
    from .protocols import Listener as Listener
    from .protocols import StoredBeat as StoredBeat
    from .registry import HealthRegistry as HealthRegistry
    from .settings import CheckSettings as CheckSettings
    from .settings import HealthSettings as HealthSettings
    from .threads import run_blocking as run_blocking
    from .transitions import Transition as Transition

__version__ = "0.1.0"

_MODULES = {
    "AlembicHealthCheck": "checks",
    "BeatsRead": "protocols",
    "BlockingCallError": "errors",
    "Check": "checks",
    "CheckOptions": "options",
    "CheckResult": "models",
    "CheckSettings": "settings",
    "Clock": "protocols",
    "ComponentStatus": "models",
    "DatabaseHealthCheck": "checks",
    "DiskSpaceHealthCheck": "checks",
    "DrainError": "errors",
    "DuplicateNameError": "errors",
    "EventLoopLagHealthCheck": "checks",
    "Failure": "models",
    "HealthCheck": "protocols",
    "HealthError": "errors",
    "HealthRegistry": "registry",
    "HealthReport": "models",
    "HealthServer": "health_server",
    "HealthSettings": "settings",
    "HeartbeatFile": "heartbeat_file",
    "HeartbeatRecord": "models",
    "HeartbeatStore": "protocols",
    "HttpHealthCheck": "checks",
    "InvalidCheckError": "errors",
    "InvalidNameError": "errors",
    "InvalidOptionError": "errors",
    "Listener": "protocols",
    "MemoryHealthCheck": "checks",
    "MemoryHeartbeatStore": "heartbeats",
    "MessageBrokerHealthCheck": "checks",
    "PastResult": "history",
    "PoolSaturationHealthCheck": "checks",
    "RedisHealthCheck": "checks",
    "ServerError": "errors",
    "ServiceInfo": "models",
    "SettingsError": "errors",
    "StoredBeat": "protocols",
    "TcpHealthCheck": "checks",
    "Transition": "transitions",
    "UnknownNameError": "errors",
    "drain_on_sigterm": "draining",
    "run_blocking": "threads",
}

__all__ = [
    "AlembicHealthCheck",
    "BeatsRead",
    "BlockingCallError",
    "Check",
    "CheckOptions",
    "CheckResult",
    "CheckSettings",
    "Clock",
    "ComponentStatus",
    "DatabaseHealthCheck",
    "DiskSpaceHealthCheck",
    "DrainError",
    "DuplicateNameError",
    "EventLoopLagHealthCheck",
    "Failure",
    "HealthCheck",
    "HealthError",
    "HealthRegistry",
    "HealthReport",
    "HealthServer",
    "HealthSettings",
    "HeartbeatFile",
    "HeartbeatRecord",
    "HeartbeatStore",
    "HttpHealthCheck",
    "InvalidCheckError",
    "InvalidNameError",
    "InvalidOptionError",
    "Listener",
    "MemoryHealthCheck",
    "MemoryHeartbeatStore",
    "MessageBrokerHealthCheck",
    "PastResult",
    "PoolSaturationHealthCheck",
    "RedisHealthCheck",
    "ServerError",
    "ServiceInfo",
    "SettingsError",
    "StoredBeat",
    "TcpHealthCheck",
    "Transition",
    "UnknownNameError",
    "__version__",
    "drain_on_sigterm",
    "run_blocking",
]


if not TYPE_CHECKING:  # a type checker knows all names, and then finds those that are wrong

    def __getattr__(name: str) -> object:
        return imported(globals(), _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
