"""Does somebody listen: a TCP connection, opened and closed again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from cqrs_ddd_health.models import CheckResult
from cqrs_ddd_health.options import require_host, require_port
from cqrs_ddd_health.threads import run_blocking

__all__ = ["Connection", "TcpHealthCheck", "connected", "opened"]

# Only for a connection that was cancelled in the moment it came about; any other is aborted.
_TLS_SHUTDOWN_SECONDS = 1.0


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


class Connection(NamedTuple):
    """An open connection, and the numeric address that it goes to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str


@asynccontextmanager
async def connected(
    host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Connection]:
    """Open a connection, by TLS if `tls` is given, that is gone when the block is left.

    It is dropped without a farewell, which the other side could delay. The name is looked up on a
    daemon thread: asyncio would take one that the exit of the process waits for.

    Raises:
        OSError: what the last address raised, a certificate that is not trusted among it.
    """
    connection = await opened(host, port, tls)
    try:
        yield connection
    finally:
        connection.writer.transport.abort()


async def opened(host: str, port: int, tls: ssl.SSLContext | None = None) -> Connection:
    """Open a connection as `connected` does, for a caller that will abort it."""
    *others, last = await run_blocking(lambda: _addresses(host, port))
    for address in others:
        with suppress(OSError):
            return await _opened_at(address, host, port, tls)
    return await _opened_at(last, host, port, tls)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _opened_at(address: str, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    reader, writer = await asyncio.open_connection(
        address,
        port,
        ssl=tls,
        server_hostname=host if tls else None,
        ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS if tls else None,
    )
    return Connection(reader, writer, address)
