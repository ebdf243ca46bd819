"""A server on the loop of the test that says what it is told to, and counts who comes and goes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from tests.core.actors import eventually

__all__ = ["LOCALHOST", "Listening", "listening"]

LOCALHOST = "127.0.0.1"


class Listening:
    """Answers each connection with the same bytes, and then waits until the other side has left.

    With `hangs_up` it leaves first; with `endless` it never stops saying `answer`.
    """

    def __init__(self, answer: bytes, *, hangs_up: bool, endless: bool) -> None:
        self.port = 0
        self.accepted = 0
        self.left = 0
        self.requests: list[bytes] = []
        self._answer = answer
        self._hangs_up = hangs_up
        self._endless = endless

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self._say(writer)
            if not self._hangs_up:
                await reader.read()
        self.left += 1
        writer.close()

    async def _say(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._answer)
        await writer.drain()
        while self._endless:
            writer.write(self._answer)
            await writer.drain()


@asynccontextmanager
async def listening(
    answer: bytes = b"",
    *,
    hangs_up: bool = False,
    endless: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Listening]:
    """Listen for as long as the block; whoever came must have left by its end, or it fails."""
    listener = Listening(answer, hangs_up=hangs_up, endless=endless)
    server = await asyncio.start_server(listener.talk, LOCALHOST, 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        for _ in range(10):  # who has connected already comes in first
            await asyncio.sleep(0)
        server.close()
        await eventually(lambda: listener.left == listener.accepted)
