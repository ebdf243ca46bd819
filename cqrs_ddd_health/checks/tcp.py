"""Does somebody listen: a TCP connection, opened and closed again."""

from __future__ import annotations

from cqrs_ddd_health.clients.sockets import connected
from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_host, require_port

__all__ = ["TcpHealthCheck"]


class TcpHealthCheck:
    """Connects to `host` and `port`, says nothing and leaves: up if somebody accepts.

    A name with several addresses is up if one of them accepts; they are tried in their order.

    `check()` raises what the last of them raised; calling the check itself gives true or false.

    Raises:
        InvalidOptionError: if `host` is no host name or `port` is not from 1 to 65535.
    """

    loop_bound = False  # it holds nothing that belongs to a loop

    def __init__(self, host: str, port: int) -> None:
        self._host = require_host("host", host)
        self._port = require_port("port", port)

    async def __call__(self) -> bool:
        """Return whether somebody accepted; whatever the network raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return which address accepted; raises what the network raises."""
        async with connected(self._host, self._port) as connection:
            return CheckResult(details={"address": connection.address})
