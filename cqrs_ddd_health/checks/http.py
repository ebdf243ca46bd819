"""Does an HTTP service answer as it should: one GET, of which no more than the status counts."""

from __future__ import annotations

import io
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cqrs_ddd_health.clients.sockets import connected
from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.domain.options import require_host, require_port
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.threads import run_blocking

if TYPE_CHECKING:
    import asyncio
    import socket

__all__ = ["HttpHealthCheck"]

_PORTS = {"http": 80, "https": 443}
_MAX_READ_BYTES = 4_096
_EXPECTED = re.compile("([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?")
# RFC 9110, sections 5.6.2 and 5.5.
_HEADER_NAME = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile("[\\t\\x20-\\x7e\\x80-\\xff]*")
_FIXED_HEADERS = {"connection": "close", "accept-encoding": "identity"}
_REFUSED_HEADERS = frozenset((*_FIXED_HEADERS, "content-length", "transfer-encoding"))
# What may stand in a path or a query as it is (RFC 3986), and the % of what is quoted already.
_UNQUOTED = "/%:@!$&'()*+,;=?~"


class HttpHealthCheck:
    """Gets `url` and is up if the status is one of `expect`: codes and ranges, `"200-299,401"`.

    Redirects are not followed: a 3xx is down unless it is expected. Of the answer no more than
    4 kB are looked at, its body not at all. `headers` are sent along. The userinfo of the URL is
    sent as Basic credentials; neither it nor the query is ever shown.

    Certificates are verified against the system's authorities, or those of the file that the
    variable `SSL_CERT_FILE` names; when the certificate expires is told in the details. Proxy
    variables are not read.

    `check()` raises what the network raises; calling the check itself gives true or false.

    Raises:
        InvalidOptionError: if `url` is no http or https URL with a host, `expect` no status codes
            from 200 to 599, or a header cannot be sent; the error does not repeat `url` or header.
    """

    loop_bound = False  # it holds nothing that belongs to a loop

    def __init__(
        self, url: str, *, expect: str = "200-299", headers: Mapping[str, str] | None = None
    ) -> None:
        parts = _split(url)
        self._host = require_host("the host of url", parts.hostname)
        self._port = _PORTS[parts.scheme] if parts.port is None else parts.port
        require_port("the port of url", self._port)
        self._by_tls = parts.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._expect = expect
        self._expected = _expected(expect)
        fields = {"host": _host_field(self._host, parts), **_credentials(parts), **_fields(headers)}
        self._request = _request(parts, fields)

    async def __call__(self) -> bool:
        """Return whether the answer was as expected; whatever the network raised is swallowed."""
        try:
            return (await self.check()).state == "up"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return the status and when the certificate expires; raises what the network raises."""
        if self._by_tls and self._tls is None:
            # On a thread and once: it reads the files of all authorities.
            self._tls = await run_blocking(ssl.create_default_context)
        async with connected(self._host, self._port, tls=self._tls) as connection:
            details = _certificate(connection.writer)
            connection.writer.write(self._request)
            try:
                status = await _status(connection.reader)
            except HTTPException:  # its text repeats the answer, which may repeat the request
                return CheckResult(state="down", details=details, message="no HTTP was answered")
        return self._judged(status, details)

    def _judged(self, status: int | None, details: Mapping[str, object]) -> CheckResult:
        if status is None:
            return CheckResult(state="down", details=details, message="no status was answered")
        details = {"status": status, **details}
        if any(status in codes for codes in self._expected):
            return CheckResult(details=details)
        message = f"status {status} was answered, expected {self._expect}"
        return CheckResult(state="down", details=details, message=message)


def _split(url: object) -> SplitResult:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        raise InvalidOptionError("url must be printable text without blanks; a blank is %20")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # either may be what cannot be read
    except ValueError:
        raise InvalidOptionError(
            "url has a host that cannot be read or a port beyond 65535; in a password, "
            "@ : / ? # and % are written %40 %3A %2F %3F %23 and %25"
        ) from None
    if parts.scheme not in _PORTS or not host:
        raise InvalidOptionError("url must be http://host... or https://host...")
    if parts.fragment:
        raise InvalidOptionError("url must have no fragment; in a password, # is written %23")
    return parts


def _expected(expect: object) -> tuple[range, ...]:
    if not isinstance(expect, str):
        raise InvalidOptionError(f"expect must be text, got {type(expect).__name__}")
    return tuple(_codes(part.strip()) for part in expect.split(","))


def _codes(text: str) -> range:
    found = _EXPECTED.fullmatch(text)
    codes = range(0)
    if found is not None:
        codes = range(int(found[1]), int(found[2] or found[1]) + 1)
    if not codes:
        raise InvalidOptionError(
            "expect must be status codes from 200 to 599, such as '200', '200,204' or "
            f"'200-299,401', got {text[:80]!r}"
        )
    return codes


def _fields(headers: object) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidOptionError(f"headers must be a mapping, got {type(headers).__name__}")
    given = cast("Mapping[object, object]", headers)
    return dict(_field(name, value) for name, value in given.items())


def _field(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise InvalidOptionError("the name of a header must be letters, digits and hyphens")
    if name.lower() in _REFUSED_HEADERS:
        raise InvalidOptionError(f"the header {name.lower()} is not yours to set")
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise InvalidOptionError(
            "the value of a header must be one line of characters from Latin-1"
        )
    return name.lower(), value


def _host_field(host: str, parts: SplitResult) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if parts.port is None else f"{name}:{parts.port}"


def _credentials(parts: SplitResult) -> dict[str, str]:
    if parts.username is None and parts.password is None:
        return {}
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _request(parts: SplitResult, fields: Mapping[str, str]) -> bytes:
    query = f"?{parts.query}" if parts.query else ""
    target = quote(f"{parts.path or '/'}{query}", safe=_UNQUOTED)
    fields = {"accept": "*/*", "user-agent": "cqrs-ddd-health", **fields, **_FIXED_HEADERS}
    lines = [f"{name.title()}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def _certificate(writer: asyncio.StreamWriter) -> dict[str, object]:
    certificate: dict[str, object] | None = writer.get_extra_info("peercert")
    if certificate is None:
        return {}
    seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    expires_at = datetime.fromtimestamp(seconds, UTC)
    return {
        "certificate_expires_at": expires_at.isoformat(),
        "certificate_days_left": (expires_at - datetime.now(UTC)).days,
    }


async def _status(reader: asyncio.StreamReader) -> int | None:
    """Return the status as soon as its line was read, None if none came; raises HTTPException."""
    heard = b""
    while chunk := await reader.read(_MAX_READ_BYTES - len(heard)):
        heard += chunk
        lines, newline, _ = heard.rpartition(b"\n")
        status = _final_status(lines + newline)
        if status is not None:
            return status
    return None


def _final_status(lines: bytes) -> int | None:
    """Return the first status in whole lines that is not an interim one (RFC 9110, section 15)."""
    try:
        while True:
            response = HTTPResponse(cast("socket.socket", _Heard(lines)))
            response.begin()
            if response.status >= 200:
                return response.status
            lines = response.fp.read()
    except RemoteDisconnected:  # nothing more was heard yet
        return None


class _Heard:
    """As much of a socket as the standard library reads an answer from."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        return io.BytesIO(self._answer)
