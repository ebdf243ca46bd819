"""`cqrs-health probe URL`: one GET, for Docker's HEALTHCHECK and for exec probes.

Imports the standard library only, and little of that: a probe is a new process every few seconds.
"""

from __future__ import annotations

from binascii import b2a_base64
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Thread
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["probe"]

MAX_BODY_BYTES = 65_536
_LIKE = "it should be like http://127.0.0.1:8000/health/live"


def probe(url: str, timeout_seconds: float) -> str | None:
    """Return `None` if the answer of `url` is a 2xx, or else in a few words what came instead.

    The timeout is that of everything together, from the look-up of the name to the last byte of
    the answer. A redirect is not followed, a proxy not used, and no certificate taken on trust.

    Raises:
        ValueError: if that URL cannot be asked. It says why, and shows nothing of the URL, which
            may hold a password.
    """
    parts = _parsed(url)
    said: list[str | None] = []
    # On a thread that may be left behind: a look-up of a name knows no timeout, and that of a
    # socket begins anew with each byte.
    asking = Thread(target=lambda: said.append(_asked(parts)), daemon=True)
    asking.start()
    asking.join(timeout_seconds)
    return said[0] if said else f"no answer within {timeout_seconds:g} s"


def _parsed(url: str) -> SplitResult:
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"the URL must be ASCII without blanks, the rest in %-codes; {_LIKE}")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:  # its words may show the password
        raise ValueError(f"the host or the port of the URL is malformed; {_LIKE}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"the URL must begin with http:// or https://; {_LIKE}")
    if not host or port == 0:
        raise ValueError(f"the URL must have a host, and no port 0; {_LIKE}")
    return parts


def _asked(url: SplitResult) -> str | None:
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    try:
        with closing(kind(url.hostname or "", url.port or kind.default_port)) as connection:
            connection.request("GET", _target(url), headers=_headers(url))
            response = connection.getresponse()
            response.read(MAX_BODY_BYTES)
    except HTTPException:
        return "no HTTP answer"
    except OSError as error:
        return _why(error)
    return None if 200 <= response.status < 300 else str(response.status)


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _headers(url: SplitResult) -> dict[str, str]:
    headers = {"Connection": "close", "User-Agent": "cqrs-health"}
    if url.username is not None:
        userinfo = f"{unquote(url.username)}:{unquote(url.password or '')}"
        credentials = b2a_base64(userinfo.encode(), newline=False).decode()
        headers["Authorization"] = f"Basic {credentials}"
    return headers


def _why(error: OSError) -> str:
    untrusted: str | None = getattr(error, "verify_message", None)  # of ssl, if that is imported
    if untrusted:
        return f"its certificate is not trusted: {untrusted}"
    words = error.strerror or type(error).__name__
    return words[:1].lower() + words[1:]
