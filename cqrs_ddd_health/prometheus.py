"""Metrics for Prometheus (extra `prometheus`): a collector, and a server of nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

from .web.collector import HealthCollector, encoded, is_collected_by
from .web.metrics import MetricsApp
from .web.server.threaded import BackgroundServer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .registry import HealthRegistry

__all__ = ["HealthCollector", "MetricsServer", "start_metrics_server"]


def start_metrics_server(
    registry: HealthRegistry,
    port: int = 9000,
    host: str = "127.0.0.1",
    *,
    collector_registry: CollectorRegistry | None = None,
) -> MetricsServer:
    """Answer `/metrics` from a thread of its own from now on, and return what ends that.

    For an application that has no HTTP. The checks are refreshed in the background meanwhile;
    called inside a running loop, async checks run on that loop, where their clients live. Called
    before, at import for one, they are `pending` until the application awaits a report. It ends
    with `close()`, at the end of a `with` or `async with` block around what was returned, or with
    the process, which it does not keep.

    Args:
        registry: whose health it is.
        port: the port to listen on, 0 for a free one; `port` of what is returned tells which.
        host: the address to listen on, IPv4 or IPv6.
        collector_registry: what else is answered, `prometheus_client.REGISTRY` for one, in which a
            `HealthCollector` of the registry is registered unless there is one. Without it the
            metrics of health are all there is.

    Raises:
        InvalidOptionError: if the host or the port can be none.
        DuplicateNameError: if something else in `collector_registry` has names of these metrics.
        ServerError: if nobody can listen there.
    """
    source: HealthCollector | CollectorRegistry = HealthCollector(registry)
    if collector_registry is not None:
        if not is_collected_by(collector_registry, registry):
            HealthCollector(registry, collector_registry)
        source = collector_registry
    server = MetricsServer(registry, MetricsApp(registry, partial(encoded, source)), host, port)
    server.start()
    return server


class MetricsServer(BackgroundServer):
    """What `start_metrics_server` returns: it answers already, and ends as other servers do."""

    def start(self) -> None:
        """Listen and answer from now on.

        Raises:
            ServerError: if it does so already, or nobody can listen there.
        """
        super().__enter__()

    def close(self) -> None:
        """End it, as the end of a `with` block does; do nothing if it has ended."""
        self.__exit__()

    def __enter__(self) -> Self:
        """Have it end with the block.

        Raises:
            ServerError: if it has ended.
        """
        self._entered()
        return self

    async def __aenter__(self) -> Self:
        """Do as `__enter__`."""
        return self.__enter__()
