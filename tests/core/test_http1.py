"""HTTP/1.1 over real sockets: what is taken, what is refused, and who is cut off."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, TypeAlias

import pytest

from cqrs_ddd_health.web.asgi import Receive, Scope, Send
from cqrs_ddd_health.web.server import http11 as http1
from cqrs_ddd_health.web.server.http11 import Connections, RequestError, parsed

from .actors import eventually, log_is_written

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SECRET = b"hunter2"


class Service(NamedTuple):
    connections: Connections
    port: int

    @property
    def open(self) -> int:
        return len(self.connections._open)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the scope says; a HEAD has no body."""
    assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
    body = f"{scope['method']} {scope['path']}?{scope['query_string']!r}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@asynccontextmanager
async def serving(app: App = echo) -> AsyncGenerator[Service]:
    connections = Connections(app)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connections.connection, "127.0.0.1", 0)
    try:
        yield Service(connections, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await connections.aclose()
        assert connections._open == {}


async def connect(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", service.port)


async def said(service: Service, *sent: bytes, eof: bool = False) -> bytes:
    """Return all that comes until the server hangs up."""
    reader, writer = await connect(service)
    for part in sent:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.001)
    if eof:
        writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


def codes(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


# --- what is taken


async def test_a_request_is_answered_and_the_connection_stays() -> None:
    async with serving() as service:
        reader, writer = await connect(service)
        for _ in range(3):
            writer.write(b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: a\r\nX: y \r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            first, length, date, *rest = head.decode().split("\r\n")
            assert (first, length) == ("HTTP/1.1 200 OK", "content-length: 17")
            assert date.startswith("date: ")
            assert date.endswith(" GMT")
            assert rest == ["", ""]
            assert await reader.readexactly(17) == b"GET /a b?b'c=%20'"
        writer.close()
        await eventually(lambda: service.open == 0)


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async with serving() as service:
        answer = await said(service, GET.replace(b"health", b"1") + b"\r\n" + GET + LAST + GET)
    assert codes(answer) == [200, 200, 200]
    assert answer.index(b"GET /1?") < answer.index(b"GET /health?") < answer.index(b"GET /last?")
    assert answer.count(b"connection: close\r\n") == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving() as service:
        answer = await said(service, *(bytes([byte]) for byte in LAST))
    assert codes(answer) == [200]


@pytest.mark.parametrize("eof", [False, True])
async def test_the_end_of_a_client_that_sends_no_more_comes_after_its_answers(eof: bool) -> None:
    requests = GET + GET if eof else LAST
    async with serving() as service:
        answer = await said(service, requests, eof=eof)
    assert codes(answer) == [200] * (2 if eof else 1)


async def test_a_client_that_has_said_all_is_told_of_the_last_answer_too() -> None:
    async with serving() as service:
        assert codes(await said(service, GET + LAST, eof=True)) == [200, 200]


async def test_http_1_0_needs_no_host_and_ends_with_its_answer() -> None:
    async with serving() as service:
        answer = await said(service, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert codes(answer) == [200]
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/health", b"/health"),
        (b"http://a/health", b"/health"),
        (b"HTTPS://a:1/b/c", b"/b/c"),
        (b"//health", b"//health"),
        (b"/%2e%2e/", b"/%2e%2e/"),
    ],
)
def test_the_path_of_a_target(target: bytes, path: bytes) -> None:
    assert parsed(b"GET %b?q HTTP/1.1\r\nHost: a" % target)[:3] == ("GET", path, b"q")


@pytest.mark.parametrize(
    ("line", "is_last"),
    [
        (b"X: y", False),
        (b"Connection: keep-alive", False),
        (b"Connection: closed", False),
        (b"Connection: x , CLOSE", True),
        (b"Connection: x\r\nconnection: close", True),
        (b"Content-Length: 00", False),
        (b"X:\t\x80\xff ", False),
    ],
)
def test_whether_the_connection_ends(line: bytes, is_last: bool) -> None:
    assert parsed(b"GET / HTTP/1.1\r\nHost: a\r\n" + line).is_last is is_last


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_a_body_is_left_unread_and_ends_the_connection(line: bytes) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
    async with serving() as service:
        answer = await said(service, request, GET * 100)
    assert codes(answer) == [200]
    assert b"POST /?" in answer


# --- what is refused


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET / HTTP/1.1",
        b"GET / HTTP/2.0\r\nHost: a",
        b"GET /  HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1 \r\nHost: a",
        b"G(T / HTTP/1.1\r\nHost: a",
        b"GET /\xe9 HTTP/1.1\r\nHost: a",
        b"GET /\x00 HTTP/1.1\r\nHost: a",
        b"GET health HTTP/1.1\r\nHost: a",
        b"GET * HTTP/1.1\r\nHost: a",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a",
        b"GET http://a HTTP/1.1\r\nHost: a",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost : a",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b",
        b"GET / HTTP/1.1\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\nno field",
        b"GET / HTTP/1.1\r\nHost: a\r\n: v",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1",
    ],
)
def test_a_head_that_is_malformed(head: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parsed(head)
    assert caught.value.code == 400


async def test_a_head_request_that_is_refused_has_no_body_either() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    async with serving(fails) as service:
        for sent, code in (
            (b"HEAD / HTTP/1.1\r\n\r\n", 400),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 500),
        ):
            head, _, body = (await said(service, sent)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % code)
            assert b"content-length: " in head
            assert body == b""


def test_a_length_of_many_digits_is_a_length() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 9_999
    assert parsed(head).is_last


def test_a_head_of_many_fields() -> None:
    fields = [b"Host: a", *(b"x: y" for _ in range(http1.MAX_FIELDS - 1))]
    assert len(parsed(b"\r\n".join([b"GET / HTTP/1.1", *fields])).fields) == http1.MAX_FIELDS
    with pytest.raises(RequestError) as caught:
        parsed(b"\r\n".join([b"GET / HTTP/1.1", *fields, b"x: y"]))
    assert caught.value.code == 431


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\nX-%b\r\n\r\n" % SECRET, 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET, 400),
        (b"\n\n" + SECRET, 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + SECRET * 5_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + SECRET * 5_000 + b"\r\n\r\n", 431),
        (SECRET * 200_000, 431),
        (b"GET /%b HTTP/1.1\r\n" % SECRET + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["malformed", "tls", "newlines", "endless", "long", "huge", "many"],
)
async def test_a_refusal_is_heard_to_its_end_and_repeats_nothing(sent: bytes, code: int) -> None:
    async with serving() as service:
        answer = await said(service, sent)
        assert codes(answer) == [code]
        assert b"connection: close\r\n" in answer
        assert b'{"error":"' in answer
        assert SECRET not in answer
        await eventually(lambda: service.open == 0)


async def test_what_the_application_raises_is_an_answer_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(SECRET.decode())

    async with serving(broken) as service:
        answer = await said(service, GET)
    assert codes(answer) == [500]
    assert SECRET not in answer
    log_is_written()
    (record,) = caplog.records
    assert record.getMessage() == "a request was answered with 500: RuntimeError"


# --- who is cut off


async def test_a_head_that_does_not_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.05)
    async with serving() as service:
        assert codes(await said(service, b"GET / HT")) == [408]
        assert await said(service) == b""
        assert codes(await said(service, GET)) == [200]


async def test_a_client_that_dribbles_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.05)
    async with serving() as service:
        reader, writer = await connect(service)
        while service.open == 0:
            await asyncio.sleep(0)
        reading = asyncio.create_task(reader.read())
        with suppress(ConnectionError):
            while not reading.done():
                writer.write(b"\r\n")
                await asyncio.sleep(0.005)
        writer.close()
        with suppress(ConnectionError):  # what it went on to say was not read
            assert codes(await reading) == []


async def test_a_client_that_never_leaves_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "GOOD_BYE_SECONDS", 0.05)
    async with serving() as service:
        reader, writer = await connect(service)
        writer.write(b"\n")
        assert codes(await reader.read()) == [400]  # we stay, and go on talking
        with suppress(ConnectionError):
            while service.open:
                writer.write(b"x" * 1_000)
                await asyncio.sleep(0.005)
        writer.close()


async def test_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.2)
    answered = 0

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answered
        answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10_000_000})

    async with serving(large) as service:
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.setblocking(False)
            client.send(GET * 1_000)
            await eventually(lambda: answered > 0 and service.open == 0)
    assert answered == 1


async def test_a_client_that_reads_late_gets_all_of_it() -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 8_000_000})

    async with serving(large) as service:
        answer = await said(service, GET + LAST)
    assert codes(answer) == [200, 200]
    assert answer.count(b"x") == 16_000_000


class Slow:
    """An application that answers when it is told to, and knows who has left."""

    def __init__(self) -> None:
        self.asked = 0
        self.left = 0
        self.gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        await echo(scope, receive, send)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_hangs_up_is_not_waited_for(reset: bool) -> None:
    slow = Slow()
    async with serving(slow) as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        client.sendall(GET)
        await eventually(lambda: slow.asked == 1)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        if not reset:  # it may only have said all that it wants to say
            slow.gate.set()
        await eventually(lambda: service.open == 0)
    assert slow.left == int(reset)


@pytest.mark.parametrize("request_", [GET, LAST])
async def test_a_client_that_said_all_that_it_wants_gets_its_answer(request_: bytes) -> None:
    slow = Slow()
    async with serving(slow) as service:
        asking = asyncio.create_task(said(service, request_, eof=True))
        await eventually(lambda: any(one._is_half_closed for one in service.connections._open))
        slow.gate.set()
        assert codes(await asking) == [200]


async def test_what_comes_during_an_answer_is_kept_within_bounds() -> None:
    slow = Slow()
    async with serving(slow) as service:
        reader, writer = await connect(service)
        writer.write(GET)
        await eventually(lambda: slow.asked == 1)
        writer.write(GET * 10_000 + LAST)
        for _ in range(100):
            await asyncio.sleep(0.001)
        (connection,) = service.connections._open
        assert len(connection._received) < 1_000_000
        slow.gate.set()
        async with asyncio.timeout(60):
            assert len(codes(await reader.read())) == 10_002
        writer.close()


async def test_when_there_are_too_many_the_idlest_has_to_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http1, "MAX_CONNECTIONS", 2)
    async with serving() as service:
        first, second = await connect(service), await connect(service)
        await eventually(lambda: service.open == 2)
        first[1].write(GET)
        await first[0].readuntil(b"\r\n\r\n")  # now the second has waited for longer
        assert codes(await said(service, LAST)) == [200]
        with suppress(ConnectionError):
            assert await second[0].read() == b""
        await eventually(lambda: service.open == 1)  # the first one is still there
        for _, writer in (first, second):
            writer.close()


async def test_when_all_are_being_answered_a_newcomer_has_to_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http1, "MAX_CONNECTIONS", 2)
    slow = Slow()
    async with serving(slow) as service:
        asking = [asyncio.create_task(said(service, LAST)) for _ in range(2)]
        await eventually(lambda: slow.asked == 2)
        with suppress(ConnectionError):
            assert await said(service, LAST) == b""
        slow.gate.set()
        assert [codes(answer) for answer in await asyncio.gather(*asking)] == [[200], [200]]


async def test_the_end_waits_for_nobody() -> None:
    slow = Slow()
    async with serving(slow) as service:
        asking, idle = await connect(service), await connect(service)
        asking[1].write(GET)
        await eventually(lambda: slow.asked == 1 and service.open == 2)
    await eventually(lambda: slow.left == 1)
    for reader, writer in (asking, idle):
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_who_comes_after_the_end_is_not_taken() -> None:
    connections = Connections(echo)
    await connections.aclose()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connections.connection, "127.0.0.1", 0)
    service = Service(connections, server.sockets[0].getsockname()[1])
    with suppress(ConnectionError):
        assert await said(service, GET) == b""
    assert service.open == 0
    server.close()
