"""Checks from URLs: what `CQRS_HEALTH_CHECKS__<NAME>__URL` can say.

| URL | asks |
| --- | --- |
| `postgresql+asyncpg://`, `mysql+aiomysql://`, `sqlite+aiosqlite:///`, ... | a database |
| `redis://`, `rediss://` | Redis |
| `amqp://`, `amqps://`, `nats://`, `tls://` (NATS), `mqtt://`, `mqtts://`, `kafka://` | a broker |
| `https://host/path?expect=200`, `http://` | an HTTP service; `expect` is not sent |
| `tcp://host:port` | whether something listens |
| `disk:///path?min_free=1GB` | the room on a file system |
| `memory://?min_available=200MB` | the machine's, or the container's, memory |
| `module:package.module:attribute` | any check of the application |

No error says anything of a URL but its scheme: whatever else it holds may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import ByteSize, TypeAdapter, ValidationError

from cqrs_ddd_health.details import hide
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.protocols import HealthCheck
from cqrs_ddd_health.threads import run_blocking

from .broker import MessageBrokerHealthCheck
from .broker_clients import SCHEMES as BROKERS
from .broker_clients import connect as connect_broker
from .broker_clients import require_client_library
from .callable import Check
from .connected import ConnectedCheck, Connection
from .database import DatabaseHealthCheck
from .disk import DiskSpaceHealthCheck
from .http import HttpHealthCheck
from .memory import MemoryHealthCheck
from .redis import RedisHealthCheck
from .tcp import TcpHealthCheck

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["check_from_url"]

_Connect: TypeAlias = "Callable[[], Awaitable[Connection]]"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = "percent-encode what stands in a user or password: @ is %40, # %23, / %2F, % %25"
_LEAST_TOKEN = 8
"""A query's value this long may be a token; shorter ones are numbers and words of any text."""


def check_from_url(url: str) -> Check:
    """Return the check that `url` describes. It connects when it is first asked.

    Raises:
        InvalidOptionError: if there is no such scheme, or the URL does not fit it.
        ImportError: if the client library, or the driver, is not installed.
    """
    matched = _SCHEME.match(url)
    scheme = matched[1] if matched else ""
    build = _BUILDERS.get(scheme.partition("+")[0])
    if build is None:
        raise InvalidOptionError(_unsupported(scheme if f"{scheme}://" in url else ""))
    if scheme == "module":
        return _from_module(url.removeprefix("module:"))
    return build(url, _parts(url, scheme))


def _unsupported(scheme: str) -> str:
    close = get_close_matches(scheme, _BUILDERS, n=1)
    said = f"there is no check for {scheme}://" if scheme else "it has no scheme"
    hint = f", did you mean {close[0]}?" if close else ""
    return f"{said}{hint or '; it may be one of ' + ', '.join(_BUILDERS)}"


def _parts(url: str, scheme: str) -> SplitResult:
    """Take the URL apart, and have its secrets hidden wherever a text is shown from now on."""
    if not url.startswith(f"{scheme}://"):
        raise InvalidOptionError(f"a {scheme} URL begins with {scheme}://")
    if _BLANK.search(url):
        raise InvalidOptionError("it must not have blanks or control characters")
    _require_encoded(url.partition("://")[2], has_free_text=scheme in _WITH_FREE_TEXT)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidOptionError(f"the host of a {scheme} URL is malformed") from None
    values = [value for _, value in parse_qsl(parts.query) if len(value) >= _LEAST_TOKEN]
    hide([parts.password or "", parts.query, *values])
    return parts


def _require_encoded(rest: str, *, has_free_text: bool) -> None:
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    beyond = rest[len(authority) :]
    cut_short = "@" in beyond and not has_free_text  # by a / or # in the password
    userinfo = authority.rpartition("@")[0]
    if "@" in userinfo or "#" in rest or cut_short or _BARE_PERCENT.search(userinfo):
        raise InvalidOptionError(_ENCODE)


def _require_host(parts: SplitResult) -> str:
    if not parts.hostname:
        raise InvalidOptionError(f"it names no host: {parts.scheme}://HOST")
    return parts.hostname


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise InvalidOptionError("its port must be a number from 1 to 65535") from None
    return port


def _arguments(parts: SplitResult, *known: str) -> dict[str, str]:
    """Return the query of a URL whose keys are all ours."""
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in said:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it may be {', '.join(known)}"
            raise InvalidOptionError(f"a {parts.scheme} URL has no such argument, {hint}")
    return said


def _size(name: str, text: str) -> float:
    try:
        return float(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise InvalidOptionError(f"{name} must be a size such as 500MB or 1GiB") from None


def _database(url: str, parts: SplitResult) -> Check:
    try:
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError as error:
        raise _missing("sqlalchemy") from error
    _port(parts)
    try:
        made, options = _engine_arguments(url, parts)
        dialect = made.get_dialect()
        dialect.import_dbapi()
    except ImportError as error:
        raise _missing_driver(parts.scheme, error) from error
    except (ArgumentError, NoSuchModuleError):
        raise InvalidOptionError(f"SQLAlchemy knows no such URL: {parts.scheme}") from None
    is_async = dialect.get_async_dialect_cls(made).is_async
    return ConnectedCheck((_async_engine if is_async else _engine)(made, options))


def _engine_arguments(url: str, parts: SplitResult) -> tuple[URL, Mapping[str, object]]:
    from sqlalchemy import make_url
    from sqlalchemy.pool import NullPool

    made = make_url(url)
    if made.get_backend_name() != "sqlite":
        if "host" not in made.query:  # which names the directory of a socket
            _require_host(parts)
        # One connection, looked at before it is used: a restart of the server between two runs
        # is no failure.
        return made, {"pool_size": 1, "max_overflow": 0, "pool_pre_ping": True}
    if not made.database or made.database == ":memory:":
        raise InvalidOptionError("it names no file: sqlite+aiosqlite:///relative or ////absolute")
    # A pooled connection would keep the file open and answer long after it is gone, and a plain
    # path would be made anew: each check opens it again, and only if it is there.
    file = made.database if made.database.startswith("file:") else f"file:{quote(made.database)}"
    query = {"mode": "rw", **made.query, "uri": "true"}
    return made.set(database=file, query=query), {"poolclass": NullPool}


def _async_engine(url: URL, options: Mapping[str, object]) -> _Connect:
    async def connect() -> Connection:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(url, **options)
        return Connection(DatabaseHealthCheck(engine.connect), engine.dispose)

    return connect


def _engine(url: URL, options: Mapping[str, object]) -> _Connect:
    async def connect() -> Connection:
        from sqlalchemy import create_engine

        engine = create_engine(url, **options)
        close = partial(run_blocking, engine.dispose)
        return Connection(DatabaseHealthCheck(engine.connect), close)

    return connect


class _RedisClient(Protocol):
    def ping(self) -> object: ...
    def aclose(self) -> Awaitable[object]: ...


def _redis(url: str, parts: SplitResult) -> Check:
    try:
        redis = import_module("redis.asyncio")  # whose class methods are not typed
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise _missing("redis") from error
    _require_host(parts)
    _port(parts)
    make = cast("Callable[..., _RedisClient]", redis.Redis.from_url)
    try:
        redis.ConnectionPool.from_url(url)
    except ValueError:
        raise InvalidOptionError("redis-py cannot use it, see redis.Redis.from_url") from None

    async def connect() -> Connection:
        # One more try, at once: a connection that a restart of the server has closed is no failure.
        client = make(url, retry=Retry(NoBackoff(), 1))
        return Connection(RedisHealthCheck(client), client.aclose)

    return ConnectedCheck(connect)


def _broker(url: str, parts: SplitResult) -> Check:
    require_client_library(parts.scheme)
    for netloc in parts.netloc.rpartition("@")[2].split(","):  # a Kafka cluster has several
        server = urlsplit(f"{parts.scheme}://{netloc}")
        _require_host(server)
        _port(server)

    async def connect() -> Connection:
        client, close = await connect_broker(url)
        return Connection(MessageBrokerHealthCheck(client), close, reconnects=False)

    return ConnectedCheck(connect)


def _http(_: str, parts: SplitResult) -> Check:
    _require_host(parts)
    _port(parts)
    sent = [item for item in parts.query.split("&") if item.partition("=")[0] != "expect"]
    expect = dict(parse_qsl(parts.query)).get("expect", "200-299")
    return HttpHealthCheck(parts._replace(query="&".join(sent)).geturl(), expect=expect)


def _tcp(_: str, parts: SplitResult) -> Check:
    _arguments(parts)
    host, port = _require_host(parts), _port(parts)
    if port is None or parts.path.strip("/"):
        raise InvalidOptionError("it must be tcp://HOST:PORT")
    return TcpHealthCheck(host, port)


def _disk(_: str, parts: SplitResult) -> Check:
    said = _arguments(parts, "min_free")
    if parts.netloc or not parts.path:
        raise InvalidOptionError("it must be disk:///PATH, with three slashes")
    free = _size("min_free", said.get("min_free", "1GB"))
    return DiskSpaceHealthCheck(Path(unquote(parts.path)), min_free_bytes=free)


def _memory(_: str, parts: SplitResult) -> Check:
    said = _arguments(parts, "min_available")
    if parts.netloc or parts.path:
        raise InvalidOptionError("it must be memory://?min_available=SIZE")
    return MemoryHealthCheck(
        min_available_bytes=_size("min_available", said.get("min_available", "200MB"))
    )


def _from_module(path: str) -> Check:
    module, _, attribute = path.removeprefix("//").partition(":")
    if not module or not attribute:
        raise InvalidOptionError("it must be module:package.module:attribute")
    try:
        found: object = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise InvalidOptionError(f"no check at {path!r}: {error}") from None
    except Exception as error:  # of the module's own making, and so are its words
        raise InvalidOptionError(f"importing {module!r} failed: {type(error).__name__}") from error
    if not callable(found) and not isinstance(found, HealthCheck):
        raise InvalidOptionError(f"{path!r} cannot be called, it is a {type(found).__name__}")
    return found


def _missing(extra: str) -> ImportError:
    return ImportError(f"it needs {extra}: pip install 'cqrs-ddd-health[{extra}]'")


def _missing_driver(scheme: str, error: ImportError) -> ImportError:
    module = error.name or "its driver"
    package = _PACKAGES.get(module, module)
    other = "" if "+" in scheme else f"; or name another driver: {scheme}+DRIVER://"
    return ImportError(f"{scheme} needs {module}: pip install {package}{other}")


_PACKAGES = {"MySQLdb": "mysqlclient"}
_WITH_FREE_TEXT = ("http", "https", "disk")
_BUILDERS: Mapping[str, Callable[[str, SplitResult], Check]] = {
    **dict.fromkeys(("postgresql", "mysql", "mariadb", "sqlite"), _database),
    **dict.fromkeys(("redis", "rediss"), _redis),
    **dict.fromkeys(BROKERS, _broker),
    **dict.fromkeys(("http", "https"), _http),
    "tcp": _tcp,
    "disk": _disk,
    "memory": _memory,
    "module": lambda path, _: _from_module(path),
}
