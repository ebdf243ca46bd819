"""Takes the URLs of checks apart. No error says anything of one but its scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import ByteSize, TypeAdapter, ValidationError

from cqrs_ddd_health.domain.redaction import WITH_FREE_TEXT
from cqrs_ddd_health.errors import InvalidOptionError

__all__ = [
    "arguments_of",
    "builder_of",
    "hosts_of",
    "missing_driver",
    "missing_extra",
    "parts_of",
    "port_of",
    "require_bare",
    "require_host",
    "scheme_of",
    "size_of",
]

T = TypeVar("T")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.IGNORECASE)
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = "percent-encode what stands in a user or password: @ is %40, # %23, / %2F, % %25"


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case, as RFC 3986 wants it read, or nothing."""
    matched = _SCHEME.match(url)
    return matched[1].lower() if matched else ""


def builder_of(url: str, what: str, builders: Mapping[str, T], of_databases: T) -> tuple[T, str]:
    """Return what builds a `what` of such a URL, and the URL with its scheme in lower case.

    Raises:
        InvalidOptionError: if there is none, or it names a driver and is not of a database.
    """
    if not url:
        raise InvalidOptionError("it is empty")
    scheme = scheme_of(url)
    plain = scheme.partition("+")[0]
    build = builders.get(plain)
    if build is None or (scheme != plain and build is not of_databases):
        raise InvalidOptionError(_unsupported(scheme if "://" in url else "", what, builders))
    return build, f"{scheme}{url[len(scheme) :]}"


def _unsupported(scheme: str, what: str, builders: Mapping[str, object]) -> str:
    known = f"it may be one of {', '.join(builders)}"
    if not scheme:
        return f"it has no scheme; {known}"
    plain, plus, driver = scheme.partition("+")
    if plus and plain in builders:
        return f"there is no {what} for {scheme}://, only a database has a +{driver}"
    close = get_close_matches(plain, builders, n=1)
    hint = f", did you mean {close[0]}?" if close else f"; {known}"
    return f"there is no {what} for {scheme}://{hint}"


def parts_of(url: str) -> SplitResult:
    """Take a URL apart, or raise `InvalidOptionError`."""
    scheme = scheme_of(url)
    if not url.startswith(f"{scheme}://"):
        raise InvalidOptionError(f"a {scheme} URL begins with {scheme}://")
    if _BLANK.search(url):
        raise InvalidOptionError("it must not have blanks or control characters")
    _require_encoded(url.partition("://")[2], scheme.partition("+")[0])
    try:
        return urlsplit(url)
    except ValueError:
        raise InvalidOptionError(f"the host of a {scheme} URL is malformed") from None


def _require_encoded(rest: str, scheme: str) -> None:
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    beyond = rest[len(authority) :]
    cut_short = "@" in beyond and scheme not in WITH_FREE_TEXT  # by a / or # in the password
    userinfo = authority.rpartition("@")[0]
    fragment = "#" in rest and scheme != "sqlite"  # which has it in the name of a file
    if "@" in userinfo or fragment or cut_short or _BARE_PERCENT.search(userinfo):
        raise InvalidOptionError(_ENCODE)


def require_host(parts: SplitResult) -> str:
    """Return the host that it names, or raise `InvalidOptionError`."""
    if not parts.hostname:
        raise InvalidOptionError(f"it names no host: {parts.scheme}://HOST")
    return parts.hostname


def port_of(parts: SplitResult) -> int | None:
    """Return its port, if it has one, or raise `InvalidOptionError`."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise InvalidOptionError("its port must be a number from 1 to 65535") from None
    return port


def hosts_of(parts: SplitResult) -> Sequence[str]:
    """Return the hosts that it names with commas between them, each with its port, if it has one.

    Raises:
        InvalidOptionError: if one of them is none.
    """
    hosts = parts.netloc.rpartition("@")[2].split(",")
    for host in hosts:
        server = urlsplit(f"{parts.scheme}://{host}")
        require_host(server)
        port_of(server)
    return hosts


def arguments_of(parts: SplitResult, *known: str) -> dict[str, str]:
    """Return its query, or raise `InvalidOptionError` if it says something that is not known."""
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in said:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            others = f"it may be {', '.join(known)}" if known else "it has none"
            hint = f"did you mean {close[0]}?" if close else others
            raise InvalidOptionError(f"a {parts.scheme} URL has no such argument, {hint}")
    return said


def require_bare(parts: SplitResult) -> None:
    """Raise `InvalidOptionError` if it has a query, or a path, that nobody would look at."""
    arguments_of(parts)
    if parts.path.strip("/"):
        raise InvalidOptionError(f"a {parts.scheme} URL has no path")


def size_of(name: str, text: str) -> float:
    """Return a number of bytes that may be written with a unit, or raise `InvalidOptionError`."""
    try:
        return float(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise InvalidOptionError(f"{name} must be a size such as 500MB or 1GiB") from None


def missing_extra(extra: str) -> ImportError:
    """Return the error for a client library that is one of our extras and is not installed."""
    return ImportError(f"it needs {extra}: pip install 'cqrs-ddd-health[{extra}]'")


def missing_driver(scheme: str, error: ImportError) -> ImportError:
    """Return the error for a database's driver that could not be imported."""
    module = error.name or "its driver"
    package = _PACKAGES.get(module, module)
    other = "" if "+" in scheme else f"; or name another driver: {scheme}+DRIVER://"
    return ImportError(f"{scheme} needs {module}: pip install {package}{other}")


_PACKAGES = {"MySQLdb": "mysqlclient"}
