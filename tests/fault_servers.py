"""Servers that do one thing wrong, and a proxy that spoils the connection to a healthy one.

They need nothing but asyncio; each has a thread and a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Literal, Self

from tests.processes import LOCALHOST, free_port


class FaultServer(ABC):
    """A TCP server on a thread of its own that does one thing wrong."""

    def __init__(self) -> None:
        self.port = free_port()
        self.accepted = 0
        self.tls: ssl.SSLContext | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._started = threading.Event()
        self._talks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @abstractmethod
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What happens to one connection; it is reset when this returns."""

    @property
    def connections(self) -> int:
        """How many connections are open now; `accepted` counts all that ever were."""
        return len(self._talks)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError(f"{type(self).__name__} did not start on port {self.port}")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        await self._listen()
        self._started.set()
        await self._leave.wait()
        await self._shut()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, LOCALHOST, self.port, ssl=self.tls
            )

    async def _shut(self) -> None:
        # Who has connected already is a talk some turns later; asyncio loses the socket of one
        # that it accepts while it closes the listener.
        for _ in range(10):
            await asyncio.sleep(0)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._reset_all()

    async def _reset_all(self) -> None:
        talks = tuple(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)  # a transport closes its socket one turn after it was aborted

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self.accepted += 1
        self._talks.add(talk)
        try:
            # This task is nobody's: who cancels it is _reset_all, and asyncio logs it on 3.11.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self.talk(reader, writer)
        finally:
            reset(writer)
            self._talks.discard(talk)

    def _call(self, what: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST rather than FIN."""
    with contextlib.suppress(OSError):
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def swallow(reader: asyncio.StreamReader) -> None:
    """Read until the other side has left."""
    while await reader.read(65_536):
        pass


class Blackhole(FaultServer):
    """Accepts, reads and never answers."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await swallow(reader)


class ResetServer(FaultServer):
    """Resets a connection as soon as it has accepted it."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return


class DripServer(FaultServer):
    """Says its words one byte at a time, then nothing more."""

    def __init__(
        self,
        words: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        interval_seconds: float = 1.0,
    ) -> None:
        super().__init__()
        self._words = words
        self._interval_seconds = interval_seconds

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        drip = asyncio.create_task(self._drip(writer))
        try:
            await swallow(reader)
        finally:
            drip.cancel()
            await asyncio.gather(drip, return_exceptions=True)

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        for byte in self._words:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(self._interval_seconds)


class GarbageServer(FaultServer):
    """Says what no protocol knows, at once and again after whatever it is told."""

    def __init__(self, garbage: bytes = bytes(range(255, -1, -1)) * 4) -> None:
        super().__init__()
        self._garbage = garbage

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._garbage)
        while await reader.read(65_536):
            writer.write(self._garbage)
            await writer.drain()


Direction = Literal["both", "to_server", "to_client"]


@dataclass
class Lane:
    """One direction of a proxy."""

    delay_seconds: float = 0.0
    dropping: bool = False
    heard: bytearray = field(default_factory=bytearray)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            self.heard += chunk
            await asyncio.sleep(self.delay_seconds)
            if not self.dropping:
                writer.write(chunk)
                await writer.drain()
        if not self.dropping and writer.can_write_eof():
            writer.write_eof()


class FaultProxy(FaultServer):
    """Stands in front of a healthy server and can be told to spoil the connection to it.

    A fault holds for connections that are open already, and until it is replaced. With `tls` it
    adds TLS to a server that has none.
    """

    def __init__(
        self,
        upstream_port: int,
        upstream_host: str = LOCALHOST,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.tls = tls
        self._upstream = (upstream_host, upstream_port)
        self._to_server = Lane()
        self._to_client = Lane()

    async def said_to_server(self) -> bytes:
        """All that clients have said, what was dropped too; waits until they have left.

        A client that is gone may have said its last word a moment ago, still unheard here.
        """
        left = asyncio.run_coroutine_threadsafe(self._all_left(), self._loop)
        await asyncio.wait_for(asyncio.wrap_future(left), 10)
        return bytes(self._to_server.heard)

    def lead_to(self, port: int) -> None:
        """Have new connections go to another server; those that are open stay where they are."""
        self._upstream = (LOCALHOST, port)

    def pass_through(self) -> None:
        """No fault, and listening again; bytes that were dropped stay lost."""
        self._set(Lane(), "both")
        self._call(self._listen())

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Hold back whatever is said."""
        self._set(Lane(delay_seconds=seconds), direction)

    def drop(self, direction: Direction = "both") -> None:
        """Swallow whatever is said, the end of a connection too."""
        self._set(Lane(dropping=True), direction)

    def refuse(self) -> None:
        """Reset every connection and accept no more."""
        self._call(self._shut())

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._call(self._reset_all())

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._to_server.pump(reader, server_writer))
                pumps.create_task(self._to_client.pump(server_reader, writer))
        except* OSError:
            pass  # one side has left; the other is reset like everything else here
        finally:
            reset(server_writer)

    async def _all_left(self) -> None:
        while self._talks:
            await asyncio.sleep(0.01)

    def _set(self, fault: Lane, direction: Direction) -> None:
        lanes = {"to_server": self._to_server, "to_client": self._to_client}
        for name, lane in lanes.items():
            if direction in {"both", name}:
                lane.delay_seconds = fault.delay_seconds
                lane.dropping = fault.dropping
