"""`cqrs-health probe`: a verdict on every answer, in time, at little cost, and without a secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeAlias

import pytest

Serve: TypeAlias = Callable[[socket.socket], object]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SECRET = "hunter2"


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cqrs_ddd_health.cli", "probe", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def verdict(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the line that it said, if it said one."""
    done = probe(*arguments)
    assert done.stdout == ""
    assert done.stderr.count("\n") <= 1
    return done.returncode, done.stderr.rstrip("\n")


@contextmanager
def serving(serve: Serve, family: socket.AddressFamily = socket.AF_INET) -> Generator[int]:
    """The port of a server that answers each connection with `serve`, until the block is left."""
    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((address, 0), family=family) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener was shut, or the probe has gone
                while True:
                    with listener.accept()[0] as connection:
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def answering(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    return serve


def of_answer(answer: bytes, *arguments: str) -> tuple[int, str]:
    with serving(answering(answer)) as port:
        return verdict(f"http://127.0.0.1:{port}/health/live", *arguments)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (0, "")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil it is closed", (0, "")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (0, "")),
        (b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", (0, "")),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n", (1, "301")),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", (1, "404")),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", (1, "503")),
        (b"", (1, "no HTTP answer")),
        (b"HTTP/1.1", (1, "no HTTP answer")),
        (b"+PONG\r\n", (1, "no HTTP answer")),
        (b"HTTP/1.1 two hundred\r\n\r\n", (1, "no HTTP answer")),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, (1, "no HTTP answer")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, (0, "")),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else None,
)
def test_what_is_said_of_an_answer(answer: bytes, expected: tuple[int, str]) -> None:
    assert of_answer(answer) == expected


def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        assert verdict(url) == (1, "connection refused")


def test_a_name_that_there_is_not() -> None:
    code, said = verdict("http://nobody.invalid/health/live")
    assert code == 1
    assert said
    assert "within" not in said


def test_tls_where_there_is_none() -> None:
    with serving(answering(b"plain\r\n")) as port:
        code, said = verdict(f"https://127.0.0.1:{port}/")
    assert code == 1
    assert "SSL" in said


def never(connection: socket.socket) -> None:
    while connection.recv(65_536):  # until the probe has gone
        pass


def one_byte_after_the_other(connection: socket.socket) -> None:
    for byte in OK * 100:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def a_body_that_does_not_end(connection: socket.socket) -> None:
    connection.sendall(OK.replace(b"Length: 2", b"Length: 3"))
    never(connection)


@pytest.mark.parametrize(
    ("scheme", "serve"),
    [
        ("http", never),
        ("http", one_byte_after_the_other),
        ("http", a_body_that_does_not_end),
        ("https", never),
    ],
)
def test_the_timeout_is_that_of_all_of_it(scheme: str, serve: Serve) -> None:
    with serving(serve) as port:
        url = f"{scheme}://127.0.0.1:{port}/"
        assert verdict(url, "--timeout", "0.3") == (1, "no answer within 0.3 s")


def test_a_connection_that_is_never_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:  # more than the queue holds: the next one hangs
            connection.setblocking(False)
            connection.connect_ex(address)
        try:
            url = f"http://127.0.0.1:{address[1]}/"
            assert verdict(url, "--timeout", "0.3") == (1, "no answer within 0.3 s")
        finally:
            for connection in waiting:
                connection.close()


def request_to(suffix: str, userinfo: str = "") -> list[str]:
    """Return the lines of the request that asks that path."""
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.recv(65_536))
        connection.sendall(OK)

    with serving(serve) as port:
        assert verdict(f"http://{userinfo}127.0.0.1:{port}{suffix}") == (0, "")
    (request,) = seen
    return request.decode().split("\r\n")


@pytest.mark.parametrize(
    ("suffix", "target"),
    [
        ("", "/"),
        ("?token=1", "/?token=1"),
        ("/health/live?a=%20&b", "/health/live?a=%20&b"),
        ("/health#part", "/health"),
    ],
)
def test_what_is_asked(suffix: str, target: str) -> None:
    request = request_to(suffix)
    assert request[0] == f"GET {target} HTTP/1.1"
    assert "Connection: close" in request
    assert [line for line in request if line.startswith("Host: 127.0.0.1:")]
    assert not [line for line in request if line.startswith("Authorization")]


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [("ops:p%40ss@", b"ops:p@ss"), ("ops@", b"ops:"), (":token@", b":token")],
)
def test_the_userinfo_is_sent_as_credentials(userinfo: str, credentials: bytes) -> None:
    request = request_to("/", userinfo)
    assert f"Authorization: Basic {b64encode(credentials).decode()}" in request


def test_an_ipv6_address() -> None:
    with serving(answering(OK), socket.AF_INET6) as port:
        assert verdict(f"http://[::1]:{port}/health/live") == (0, "")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "http://"),
        ("127.0.0.1:8000/health", "http://"),
        (f"ftp://ops:{SECRET}@127.0.0.1/", "http://"),
        (f"http://ops:{SECRET}@", "a host"),
        (f"http://ops:{SECRET}@/path", "a host"),
        (f"http://ops:{SECRET}@a:0/", "port 0"),
        (f"http://ops:{SECRET}@a:65536/", "port"),
        (f"http://ops:{SECRET}@a:many/", "port"),
        (f"http://ops:{SECRET}@[::1/", "malformed"),
        (f"http://ops:[{SECRET}]@a/", "malformed"),
        (f"http://{SECRET}..a/", "malformed"),
        (f"http://a/{SECRET} HTTP/1.1", "blanks"),
        (f"http://a/{SECRET}\r\nX: y", "blanks"),
        (f"http://a/\u00e9?{SECRET}", "ASCII"),
    ],
)
def test_a_url_that_cannot_be_asked(url: str, reason: str) -> None:
    code, said = verdict(url)
    assert code == 2
    assert reason in said
    assert "http://127.0.0.1:8000/health/live" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "arguments",
    [
        [f"http://ops:{SECRET}@127.0.0.1:1/?key={SECRET}"],
        [f"https://ops:{SECRET}@127.0.0.1:1/?key={SECRET}"],
        ["http://127.0.0.1:1/", f"http://ops:{SECRET}@a/"],
        ["http://127.0.0.1:1/", f"--password={SECRET}"],
    ],
)
def test_nothing_of_a_secret_is_said(arguments: list[str]) -> None:
    done = probe(*arguments)
    assert done.returncode in {1, 2}
    assert done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "two"])
def test_a_timeout_that_is_none(seconds: str) -> None:
    done = probe("http://127.0.0.1:1/", f"--timeout={seconds}")
    assert done.returncode == 2
    assert "--timeout: must be a number of seconds above 0" in done.stderr


MODULES = """
import sys
before = set(sys.modules)
from cqrs_ddd_health.cli import main
code = main()
print(*sorted(set(sys.modules) - before))
sys.exit(code)
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_it_imports_the_standard_library_and_nothing_else(scheme: str) -> None:
    unmeasured = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    with serving(answering(OK)) as port:
        done = subprocess.run(
            [sys.executable, "-c", MODULES, "probe", f"{scheme}://127.0.0.1:{port}/"],
            check=False,
            capture_output=True,
            env=unmeasured,
            text=True,
            timeout=60,
        )
    assert done.returncode == int(scheme == "https")
    modules = done.stdout.split()
    ours = {name for name in modules if name.startswith("cqrs_ddd_health")}
    own = ("cli", "cli.output", "cli.parser", "cli.probe", "runtime", "runtime.lazy")
    assert ours == {"cqrs_ddd_health", *(f"cqrs_ddd_health.{name}" for name in own)}
    others = {name.partition(".")[0] for name in modules} - {"cqrs_ddd_health"}
    assert others <= sys.stdlib_module_names
    assert others.isdisjoint({"asyncio", "typing"})
