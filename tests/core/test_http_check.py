"""The check of an HTTP service: what it asks, takes for an answer, refuses and never shows."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping

import pytest

from cqrs_ddd_health import CheckResult, HttpHealthCheck, InvalidOptionError
from tests.listening import LOCALHOST, listening

from .actors import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "s3cr3t"


def answering(status: int, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} Whatever\r\n{headers}\r\n".encode()


async def asked(answer: bytes, *, expect: str = "200-299", path: str = "/") -> CheckResult:
    """What the check says of a server that answers so and waits until it is left."""
    async with listening(answer) as listener:
        result = await HttpHealthCheck(listener.url + path, expect=expect).check()
        await eventually(lambda: listener.left == 1)
    return result


async def sent(path: str, headers: Mapping[str, str] | None = None, user: str = "") -> list[str]:
    """The lines of the request that the check makes."""
    async with listening(OK) as listener:
        url = f"http://{user}{LOCALHOST}:{listener.port}{path}"
        assert await HttpHealthCheck(url, headers=headers)()
    (request,) = listener.requests
    return request.decode("latin-1").split("\r\n")


# --- what it asks


async def test_a_request_asks_for_one_plain_answer_and_the_end_of_the_connection() -> None:
    async with listening(OK) as listener:
        assert await HttpHealthCheck(f"{listener.url}/health/ready?deep=1")()
    assert listener.requests == [
        b"GET /health/ready?deep=1 HTTP/1.1\r\n"
        b"Accept: */*\r\n"
        b"User-Agent: cqrs-ddd-health\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Connection: close\r\n"
        b"Accept-Encoding: identity\r\n\r\n" % listener.port
    ]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/a/../b;c=1?q=%2F&r=a+b", "/a/../b;c=1?q=%2F&r=a+b"),
        ("/ü?ß", "/%C3%BC?%C3%9F"),
        ('/"<>', "/%22%3C%3E"),
    ],
)
async def test_the_target_is_the_path_and_the_query(path: str, target: str) -> None:
    assert (await sent(path))[0] == f"GET {target} HTTP/1.1"


async def test_headers_are_sent_along_and_replace_the_usual_ones() -> None:
    lines = await sent("/", {"HOST": "shop.example", "X-Token": "a b", "accept": "text/html"})
    assert {"Host: shop.example", "X-Token: a b", "Accept: text/html"} <= set(lines)
    assert len([line for line in lines if line.startswith(("Host", "Accept:"))]) == 2


@pytest.mark.parametrize(
    ("user", "pair"),
    [("app:s%40c%3Ar%C3%A9t@", "app:s@c:rét"), ("app@", "app:"), (":key@", ":key")],
)
async def test_userinfo_becomes_basic_credentials(user: str, pair: str) -> None:
    expected = f"Authorization: Basic {b64encode(pair.encode()).decode()}"
    assert expected in await sent("/", user=user)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Shop.example", "shop.example"),
        ("http://shop.example:80", "shop.example:80"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_the_host_is_named_as_in_the_url(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in HttpHealthCheck(url)._request


# --- what it takes for an answer


async def test_an_expected_status_is_up_without_the_rest_of_the_answer() -> None:
    result = await asked(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n")
    assert (result.state, result.details) == ("up", {"status": 200})


@pytest.mark.parametrize(
    ("status", "expect", "state"),
    [
        (200, "200-299", "up"),
        (299, "200-299", "up"),
        (300, "200-299", "down"),
        (503, "200-299", "down"),
        (204, "200,204", "up"),
        (201, "200,204", "down"),
        (401, "200-299 , 401", "up"),
        (302, "302", "up"),
    ],
)
async def test_the_status_decides(status: int, expect: str, state: str) -> None:
    result = await asked(answering(status), expect=expect)
    assert (result.state, result.details) == (state, {"status": status})


async def test_a_redirect_is_down_and_not_followed_nor_shown() -> None:
    async with listening(answering(302, f"Location: /login?token={SECRET}\r\n")) as listener:
        result = await HttpHealthCheck(listener.url).check()
        assert listener.accepted == 1
    assert result.state == "down"
    assert result.details == {"status": 302}
    assert result.message == "status 302 was answered, expected 200-299"


@pytest.mark.parametrize("interim", [100, 102, 103])
async def test_interim_answers_are_passed_over(interim: int) -> None:
    result = await asked(answering(interim, "Link: </a.css>\r\n") * 2 + answering(204))
    assert result.details == {"status": 204}


async def test_an_answer_in_pieces_is_put_together() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in answering(103, "Link: </a.css>\r\n") + OK:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(talk, LOCALHOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await HttpHealthCheck(f"http://{LOCALHOST}:{port}")()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", answering(100), answering(103), b"HTTP/1.1 20\r"]
)
async def test_a_connection_that_ends_without_a_status_is_down(answer: bytes) -> None:
    async with listening(answer, hangs_up=True) as listener:
        check = HttpHealthCheck(listener.url)
        result = await check.check()
        assert await check() is False
    assert (result.state, result.message) == ("down", "no status was answered")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\r\n\r\n",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 abc\r\n",
        b"HTTP/1.1 99 Low\r\n",
        bytes(range(256)),
    ],
)
async def test_what_is_no_http_is_down(answer: bytes) -> None:
    result = await asked(answer)
    assert (result.state, result.message) == ("down", "no HTTP was answered")


async def test_a_server_that_repeats_the_request_gives_nothing_of_it_away() -> None:
    result = await asked(f"GET /?token={SECRET} HTTP/1.1\r\n".encode(), path=f"/?token={SECRET}")
    assert result.state == "down"
    assert SECRET not in result.model_dump_json()


async def test_no_more_is_looked_at_than_4_kb() -> None:
    result = await asked(b"x" * 4_096 + b"\r\n" + OK)
    assert result.message == "no status was answered"


@pytest.mark.parametrize("answer", [OK + b"x" * 1_000, b"x" * 1_000])
async def test_an_answer_without_end_is_left(answer: bytes) -> None:
    async with listening(answer, endless=True) as listener:
        result = await HttpHealthCheck(listener.url).check()
        await eventually(lambda: listener.left == 1)
    assert result.state == ("up" if answer.startswith(OK) else "down")


async def test_nobody_there_raises_and_is_down() -> None:
    async with listening() as listener:
        check = HttpHealthCheck(listener.url)
    with pytest.raises(ConnectionRefusedError):
        await check.check()
    assert await check() is False


async def test_a_check_that_is_cut_off_leaves_no_connection() -> None:
    async with listening() as listener:
        task = asyncio.create_task(HttpHealthCheck(listener.url).check())
        await eventually(lambda: len(listener.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: listener.left == 1)


# --- what it refuses


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://app:{SECRET}@shop.example",
        f"//app:{SECRET}@shop.example",
        f"shop.example/?token={SECRET}",
        f"http:///path?token={SECRET}",
        f"http://app:{SECRET}@",
        f"http://app:{SECRET}@shop.example:0",
        f"http://app:{SECRET}@shop.example:65536",
        f"http://app:{SECRET}@shop.example:http",
        f"http://app:{SECRET}@[::1",
        f"http://app:12#{SECRET}@shop.example",
        f"http://app:{SECRET}/@shop.example",
        f"http://app:12/{SECRET}@shop.example#fragment",
        f"http://app:{SECRET}@shop example",
        f"http://app:{SECRET}@shop.example/\r\nX: y",
        f"http://app:{SECRET}@shop..example",
        f"http://{SECRET * 20}",
        f"http://app:{SECRET}@shop.example\u2100",
        f"http://shop.example/\ud800{SECRET}",
        "",
        None,
        SECRET.encode(),
    ],
)
def test_a_url_that_cannot_be_asked_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidOptionError, match="url") as raised:
        HttpHealthCheck(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "expect",
    [
        "",
        "ok",
        "200-",
        "-200",
        "299-200",
        "200;204",
        "199",
        "600",
        "2000",
        "200,",
        "٢٠٠",
        None,
        200,
    ],
)
def test_expectations_that_are_none_are_refused(expect: str) -> None:
    with pytest.raises(InvalidOptionError, match="expect must be"):
        HttpHealthCheck("http://shop.example", expect=expect)


@pytest.mark.parametrize(
    "headers",
    [
        {f"X-{SECRET}\r\nY": "a"},
        {f"X {SECRET}": "a"},
        {"": SECRET},
        {1: SECRET},
        {"X-Token": f"{SECRET}\r\nY: z"},
        {"X-Token": f"{SECRET}\n"},
        {"X-Token": f"{SECRET}\0"},
        {"X-Token": f"{SECRET}€"},
        {"X-Token": 1},
        {"Connection": f"keep-alive, {SECRET}"},
        {"content-length": "5"},
        [("X-Token", SECRET)],
        SECRET,
    ],
)
def test_headers_that_cannot_be_sent_are_refused_and_not_repeated(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidOptionError, match="header") as raised:
        HttpHealthCheck("http://shop.example", headers=headers)
    assert SECRET not in str(raised.value)


async def test_nothing_secret_is_in_what_is_shown() -> None:
    async with listening(answering(500)) as listener:
        url = f"http://app:{SECRET}@{LOCALHOST}:{listener.port}/?token={SECRET}"
        check = HttpHealthCheck(url, headers={"X-Token": SECRET})
        shown = [repr(check), str(check), (await check.check()).model_dump_json()]
    assert SECRET not in "".join(shown)
