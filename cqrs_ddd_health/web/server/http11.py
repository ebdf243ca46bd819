"""HTTP/1.1 for one ASGI application that only answers GET and HEAD: small, strict and bounded.

Not a web server: no body is ever read, nothing is streamed, and whoever is slow is cut off. What
a client sent is shown nowhere. The rules are those of RFC 9110 and 9112, without what is optional.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import Task, TimerHandle, Transport
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, TypeAlias, cast
from urllib.parse import unquote

from cqrs_ddd_health.domain.redaction import class_name
from cqrs_ddd_health.runtime.readers import warn
from cqrs_ddd_health.runtime.tasks import start_task
from cqrs_ddd_health.web import responses as formats
from cqrs_ddd_health.web.request import Message, Receive, Scope, Send
from cqrs_ddd_health.web.responses import Answer

__all__ = ["Application", "Connection", "Connections", "Request", "RequestError", "parsed"]

MAX_HEAD_BYTES = 16_384
MAX_FIELDS = 100
MAX_CONNECTIONS = 256
HEAD_SECONDS = 5.0
"""How long a client may take until the head of its next request is there, and the answer gone."""
GOOD_BYE_SECONDS = 1.0
"""How long a client that was refused may take to read why."""

Application: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"
Fields: TypeAlias = "Sequence[tuple[bytes, bytes]]"

_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
_FIELD_LINE = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)


class RequestError(Exception):
    """Raised when the head of a request is not taken; `code` is what to answer."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code: int = code


class Request(NamedTuple):
    """What the head of a request says."""

    method: str
    path: bytes
    query: bytes
    fields: Fields
    version: str
    is_last: bool
    """Whether the connection ends with the answer."""


def parsed(head: bytes) -> Request:
    """Return what a head says, which is given without the blank line at its end.

    Raises:
        RequestError: if it is malformed, or announces a body that it may not have (400), or has
            too many fields (431).
    """
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise RequestError(400)
    if len(lines) > MAX_FIELDS:
        raise RequestError(431)
    fields = [_field(line) for line in lines]
    method, target, minor = line[1].decode(), _origin_form(line[2]), line[3].decode()
    hosts = _values(fields, b"host")
    if len(hosts) > 1 or (not hosts and minor == "1"):
        raise RequestError(400)
    has_body = _announces_body(fields)
    if has_body and method in {"GET", "HEAD"}:
        raise RequestError(400)
    path, _, query = target.partition(b"?")
    options = b",".join(_values(fields, b"connection")).lower().split(b",")
    is_last = has_body or minor == "0" or b"close" in (option.strip() for option in options)
    return Request(method, path, query, fields, f"1.{minor}", is_last)


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD_LINE.fullmatch(line)
    if match is None:  # folded lines too, which RFC 9112 has a server refuse
        raise RequestError(400)
    return match[1].lower(), match[2].strip(b" \t")


def _origin_form(target: bytes) -> bytes:
    """Return a target without the scheme and the host that it may have: a server must take both."""
    if target.startswith(b"/"):
        return target
    scheme, _, rest = target.partition(b"://")
    _, slash, path = rest.partition(b"/")
    if scheme.lower() not in {b"http", b"https"} or not slash:
        raise RequestError(400)
    return slash + path


def _announces_body(fields: Fields) -> bool:
    lengths = _values(fields, b"content-length")
    if len(lengths) > 1 or not all(map(bytes.isdigit, lengths)):
        raise RequestError(400)
    return bool(_values(fields, b"transfer-encoding")) or any(map(_is_positive, lengths))


def _is_positive(digits: bytes) -> bool:
    return bool(digits.strip(b"0"))  # not int(): it refuses what is longer than 4300 digits


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for field, value in fields if field == name]


class Connections:
    """The connections to one application. When there are too many, the idlest has to go."""

    def __init__(self, application: Application) -> None:
        self.application: Application = application
        self._open: dict[Connection, None] = {}  # the one that has waited longest first
        self._is_closing = False

    def connection(self) -> Connection:
        """Return a protocol for a connection that is about to be made."""
        return Connection(self)

    def admit(self, connection: Connection) -> None:
        """Have a connection that was made, or end it at once."""
        if len(self._open) >= MAX_CONNECTIONS:
            idlest = next((other for other in self._open if other.is_idle), None)
            if idlest is not None:
                self._end(idlest)
        if self._is_closing or len(self._open) >= MAX_CONNECTIONS:
            connection.abort()
        else:
            self._open[connection] = None

    def waits(self, connection: Connection) -> None:
        """Take note that it begins to wait for a request."""
        del self._open[connection]
        self._open[connection] = None

    def forget(self, connection: Connection) -> None:
        """Take note that it is lost."""
        self._open.pop(connection, None)

    async def aclose(self) -> None:
        """End all connections, at once and whatever they do."""
        self._is_closing = True
        for connection in list(self._open):
            self._end(connection)
        await asyncio.sleep(0)  # the loop tells each that it is lost

    def _end(self, connection: Connection) -> None:
        self.forget(connection)
        connection.abort()


class Connection(asyncio.Protocol):
    """One connection: answers one request after the other, never two at a time."""

    _transport: Transport
    _timer: TimerHandle

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._received = bytearray()
        self._answering: Task[None] | None = None
        self._is_ending = False  # what comes now is not read any more
        self._is_half_closed = False  # nothing comes any more
        self._is_full = False  # the client does not read what it was sent

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._answering is None

    def abort(self) -> None:
        """Hang up, whatever is still to be sent."""
        self._is_ending = True
        if self._answering is not None:
            self._answering.cancel()
        self._timer.cancel()
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = cast("Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._be_late)
        self._connections.admit(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is there, or keep it until what came before it is answered."""
        if self._is_ending:
            return
        self._received += data
        self._answer_next()
        if len(self._received) >= MAX_HEAD_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Hang up, once what was asked before is answered."""
        self._is_half_closed = True
        return not self.is_idle

    def pause_writing(self) -> None:
        """Begin no further answer: the client does not read."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on answering."""
        self._is_full = False
        self._answer_next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Forget it: nobody waits for the answer any more."""
        self._connections.forget(self)
        self.abort()

    def _answer_next(self) -> None:
        """Begin to answer the next request if its head is there and its turn has come."""
        received = self._received
        if self._answering is not None or self._is_ending or self._is_full:
            return
        while received.startswith(b"\r\n"):  # RFC 9112, 2.2: some clients send one too many
            del received[:2]
        end = received.find(_END, 0, MAX_HEAD_BYTES)
        if end >= 0:
            head = bytes(received[:end])
            del received[: end + len(_END)]
            self._begin(head)
        elif len(received) >= MAX_HEAD_BYTES:
            self._refuse(431)
        elif received and not received[:1].isalpha():
            self._refuse(400)  # TLS, for one: its client would wait for us, and we for it

    def _begin(self, head: bytes) -> None:
        try:
            request = parsed(head)
        except RequestError as error:
            self._refuse(error.code, is_head=head.startswith(b"HEAD "))
            return
        self._timer.cancel()  # from here on the time is ours
        self._answering = start_task(self._answer(request), "cqrs-health answer")

    async def _answer(self, request: Request) -> None:
        is_last = request.is_last
        try:
            answer = await self._asked(request)
        except Exception as error:  # whatever it is, the next request may go well
            warn("a request was answered with 500: %s", class_name(error), error=error)
            answer, is_last = formats.refused(500), True
            if request.method == "HEAD":
                answer = answer._replace(body=b"")
        self._answering = None
        self._send(answer, is_last=is_last)
        if is_last:
            self._say_good_bye()
            return
        self._restart_timer(HEAD_SECONDS)
        self._connections.waits(self)
        self._transport.resume_reading()
        self._answer_next()
        if self._is_half_closed and self.is_idle:
            self._transport.close()

    async def _asked(self, request: Request) -> Answer:
        """Return what the application answers."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._connections.application(self._scope(request), receive, send)
        start, body = sent
        return Answer(
            cast("int", start["status"]),
            cast("bytes", body["body"]),
            cast("tuple[tuple[bytes, bytes], ...]", start["headers"]),
        )

    def _scope(self, request: Request) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "method": request.method,
            "scheme": "http",
            "path": unquote(request.path.decode()),
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.fields,
            "client": self._transport.get_extra_info("peername"),
            "server": self._transport.get_extra_info("sockname"),
        }

    def _refuse(self, code: int, *, is_head: bool = False) -> None:
        answer = formats.refused(code)
        self._send(answer._replace(body=b"") if is_head else answer, is_last=True)
        self._say_good_bye()

    def _send(self, answer: Answer, *, is_last: bool) -> None:
        fields = [*answer.headers, (b"date", formatdate(usegmt=True).encode())]
        if is_last:
            fields.append((b"connection", b"close"))
        lines = [b"%b: %b" % field for field in fields]
        first = f"HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}".encode()
        self._transport.write(b"\r\n".join([first, *lines]) + _END + answer.body)

    def _say_good_bye(self) -> None:
        """Let the client read to the end before the connection is closed.

        Closed with something unread, it would be reset, and the answer be lost with it.
        """
        self._is_ending = True
        self._received.clear()
        if self._is_half_closed:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._transport.resume_reading()
        self._restart_timer(GOOD_BYE_SECONDS)

    def _restart_timer(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._be_late)

    def _be_late(self) -> None:
        """The client has had its time."""
        if self._is_ending or self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self._received:
            self._refuse(408)
        else:
            self._transport.close()
