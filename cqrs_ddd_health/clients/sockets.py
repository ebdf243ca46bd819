"""A TCP connection, with TLS or without, that is dropped without a farewell."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from cqrs_ddd_health.runtime.threads import run_blocking

__all__ = ["Connection", "connected", "opened"]

# Only for a connection that was cancelled in the moment it came about; any other is aborted.
_TLS_SHUTDOWN_SECONDS = 1.0


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
