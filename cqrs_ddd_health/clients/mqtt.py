"""A connection to an MQTT broker that asks for signs of life and does nothing else.

aiomqtt connects on the event loop's default executor, and once it is cut off there it goes on to
connect, with a socket and a task that nobody closes. What a probe needs of MQTT 3.1.1 is little.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from typing import Self

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.runtime.threads import run_blocking

from .sockets import opened

__all__ = ["MqttConnection"]

_CLEAN_SESSION, _HAS_PASSWORD, _HAS_USERNAME = 0x02, 0x40, 0x80
_CONNACK = b"\x20\x02"
_PINGREQ, _PINGRESP, _DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
_REFUSALS = {
    1: "it speaks no MQTT 3.1.1",
    2: "it does not like the client identifier",
    3: "it is unavailable",
    4: "wrong user name or password",
    5: "not authorized",
}


class MqttConnection:
    """Asks with PINGREQ. Subscribes to nothing, publishes nothing and leaves no will."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._owed = 0

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
    ) -> Self:
        """Connect and log in, or leave nothing behind.

        Raises:
            OSError: if nobody listens there, or the certificate is not to be trusted.
            ConnectionError: if the broker refuses, or speaks something else than MQTT 3.1.1.
        """
        context = await run_blocking(ssl.create_default_context) if tls else None
        reader, writer, _ = await opened(host, port, context)
        connection = cls(reader, writer)
        try:
            await connection._log_in(username, password)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def health_check(self) -> CheckResult:
        """Send PINGREQ and wait for PINGRESP."""
        self._owed += 1
        self._writer.write(_PINGREQ)
        while self._owed:  # an answer to an earlier one, which was cut off, says nothing of now
            await self._expect(_PINGRESP)
            self._owed -= 1
        return CheckResult(details={"client": type(self).__name__, "asked": "PINGREQ"})

    async def close(self) -> None:
        """Say good-bye and close at once, whether or not the broker listens."""
        self._writer.write(_DISCONNECT)
        self._writer.transport.abort()
        await asyncio.sleep(0)  # a transport closes its socket one turn after it was aborted

    async def _log_in(self, username: str | None, password: str | None) -> None:
        self._writer.write(_connect_packet(username, password))
        await self._expect(_CONNACK)
        _, code = await self._read(2)
        if code:
            reason = _REFUSALS.get(code, f"code {code}")
            raise ConnectionRefusedError(f"the MQTT broker refuses: {reason}")

    async def _expect(self, packet: bytes) -> None:
        heard = await self._read(len(packet))
        if heard != packet:
            raise ConnectionError(f"no MQTT broker answers like that: {heard.hex()}")

    async def _read(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the MQTT broker has closed the connection") from error


def _connect_packet(username: str | None, password: str | None) -> bytes:
    identifier = f"cqrs-health-{secrets.token_hex(5)}"  # 23 bytes at most must be accepted
    words, flags = [identifier], _CLEAN_SESSION
    if username is not None:
        words, flags = [*words, username], flags | _HAS_USERNAME
    if password is not None:
        words, flags = [*words, password], flags | _HAS_PASSWORD
    version, no_keepalive = 4, b"\0\0"
    payload = b"".join(_prefixed(word) for word in words)
    body = _prefixed("MQTT") + bytes((version, flags)) + no_keepalive + payload
    return b"\x10" + _size(len(body)) + body


def _prefixed(word: str) -> bytes:
    encoded = word.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _size(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more bytes follow."""
    high, low = divmod(number, 128)
    return bytes((low,)) if not high else bytes((low | 128,)) + _size(high)
