"""Is the service healthy, and if not, what broke: checks, worker heartbeats, one typed report.

The names below are imported when they are first used; until then this package costs nothing.
"""

from __future__ import annotations

from .runtime.lazy import imported

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
    from .config.settings import CheckSettings as CheckSettings
    from .config.settings import HealthSettings as HealthSettings
    from .domain.models import CheckResult as CheckResult
    from .domain.models import ComponentStatus as ComponentStatus
    from .domain.models import Failure as Failure
    from .domain.models import HealthReport as HealthReport
    from .domain.models import HeartbeatRecord as HeartbeatRecord
    from .domain.models import ServiceInfo as ServiceInfo
    from .domain.options import CheckOptions as CheckOptions
    from .domain.protocols import BeatsRead as BeatsRead
    from .domain.protocols import Clock as Clock
    from .domain.protocols import HealthCheck as HealthCheck
    from .domain.protocols import HeartbeatStore as HeartbeatStore
    from .domain.protocols import Listener as Listener
    from .domain.protocols import StoredBeat as StoredBeat
    from .domain.transitions import Transition as Transition
    from .domain.wire import ReadyDict as ReadyDict
    from .domain.wire import StatusDict as StatusDict
    from .domain.wire import UpDown as UpDown
    from .engine.configured_checks import OptionOrigin as OptionOrigin
    from .engine.history import PastResult as PastResult
    from .engine.snapshot import Measurements as Measurements
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
    from .heartbeats.file import HeartbeatFile as HeartbeatFile
    from .heartbeats.stores.memory import MemoryHeartbeatStore as MemoryHeartbeatStore
    from .registry import HealthRegistry as HealthRegistry
    from .runtime.threads import run_blocking as run_blocking
    from .web.openapi import openapi as openapi
    from .web.server.draining import SigtermDrain as SigtermDrain
    from .web.server.draining import drain_on_sigterm as drain_on_sigterm
    from .web.server.health_server import HealthServer as HealthServer

__version__ = "0.1.0"

_MODULES = {
    "AlembicHealthCheck": "checks",
    "BeatsRead": "domain.protocols",
    "BlockingCallError": "errors",
    "Check": "checks",
    "CheckOptions": "domain.options",
    "CheckResult": "domain.models",
    "CheckSettings": "config.settings",
    "Clock": "domain.protocols",
    "ComponentStatus": "domain.models",
    "DatabaseHealthCheck": "checks",
    "DiskSpaceHealthCheck": "checks",
    "DrainError": "errors",
    "DuplicateNameError": "errors",
    "EventLoopLagHealthCheck": "checks",
    "Failure": "domain.models",
    "HealthCheck": "domain.protocols",
    "HealthError": "errors",
    "HealthRegistry": "registry",
    "HealthReport": "domain.models",
    "HealthServer": "web.server.health_server",
    "HealthSettings": "config.settings",
    "HeartbeatFile": "heartbeats.file",
    "HeartbeatRecord": "domain.models",
    "HeartbeatStore": "domain.protocols",
    "HttpHealthCheck": "checks",
    "InvalidCheckError": "errors",
    "InvalidNameError": "errors",
    "InvalidOptionError": "errors",
    "Listener": "domain.protocols",
    "Measurements": "engine.snapshot",
    "MemoryHealthCheck": "checks",
    "MemoryHeartbeatStore": "heartbeats.stores.memory",
    "MessageBrokerHealthCheck": "checks",
    "OptionOrigin": "engine.configured_checks",
    "PastResult": "engine.history",
    "PoolSaturationHealthCheck": "checks",
    "ReadyDict": "domain.wire",
    "RedisHealthCheck": "checks",
    "ServerError": "errors",
    "ServiceInfo": "domain.models",
    "SettingsError": "errors",
    "SigtermDrain": "web.server.draining",
    "StatusDict": "domain.wire",
    "StoredBeat": "domain.protocols",
    "TcpHealthCheck": "checks",
    "Transition": "domain.transitions",
    "UnknownNameError": "errors",
    "UpDown": "domain.wire",
    "drain_on_sigterm": "web.server.draining",
    "openapi": "web.openapi",
    "run_blocking": "runtime.threads",
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
    "Measurements",
    "MemoryHealthCheck",
    "MemoryHeartbeatStore",
    "MessageBrokerHealthCheck",
    "OptionOrigin",
    "PastResult",
    "PoolSaturationHealthCheck",
    "ReadyDict",
    "RedisHealthCheck",
    "ServerError",
    "ServiceInfo",
    "SettingsError",
    "SigtermDrain",
    "StatusDict",
    "StoredBeat",
    "TcpHealthCheck",
    "Transition",
    "UnknownNameError",
    "UpDown",
    "__version__",
    "drain_on_sigterm",
    "openapi",
    "run_blocking",
]


if not TYPE_CHECKING:  # a type checker knows all names, and then finds those that are wrong

    def __getattr__(name: str) -> object:
        return imported(globals(), _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
