"""Checks from URLs: what `CQRS_HEALTH_CHECKS__<NAME>__URL` can say.

| URL | asks |
| --- | --- |
| `postgresql+asyncpg://`, `mysql+aiomysql://`, `sqlite+aiosqlite:///`, ... | a database |
| `redis://`, `rediss://`, `unix:///path?db=0` | Redis |
| any of these with `?writable=1` | a primary, that takes writes too |
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
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from cqrs_ddd_health.clients.argument_values import flag
from cqrs_ddd_health.clients.driver_arguments import driver_arguments
from cqrs_ddd_health.clients.redis import redis_client
from cqrs_ddd_health.clients.urls import (
    arguments_of,
    builder_of,
    hosts_of,
    missing_driver,
    missing_extra,
    parts_of,
    port_of,
    require_bare,
    require_host,
    size_of,
)
from cqrs_ddd_health.domain.protocols import HealthCheck
from cqrs_ddd_health.domain.redaction import safe_text
from cqrs_ddd_health.errors import HealthError, InvalidOptionError
from cqrs_ddd_health.runtime.threads import run_blocking

from .broker import MessageBrokerHealthCheck
from .brokers.connect import CLUSTERS, require_client_library
from .brokers.connect import SCHEMES as BROKERS
from .brokers.connect import connect as connect_broker
from .callable import Check
from .connected import ConnectedCheck, ConnectedClient
from .database import DatabaseHealthCheck
from .disk import DiskSpaceHealthCheck
from .http import HttpHealthCheck
from .memory import MemoryHealthCheck
from .redis import RedisHealthCheck
from .tcp import TcpHealthCheck

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["check_from_url"]

_Connect: TypeAlias = "Callable[[], Awaitable[ConnectedClient]]"


def check_from_url(url: str) -> Check:
    """Return the check that `url` describes. It connects when it is first asked.

    Raises:
        InvalidOptionError: if there is no such scheme, or the URL does not fit it.
        ImportError: if the client library, or the driver, is not installed.
    """
    build, url = builder_of(url, "check", _BUILDERS, _database)
    if url.startswith("module:"):
        return _from_module(url.removeprefix("module:"))
    parts = parts_of(url)
    try:
        return build(url, parts)
    except (HealthError, ImportError):
        raise
    except Exception as error:  # of a library, whose words may be the URL
        raise InvalidOptionError(f"it cannot be used: {type(error).__name__}") from None


def _database(url: str, parts: SplitResult) -> Check:
    try:
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError as error:
        raise missing_extra("sqlalchemy") from error
    port_of(parts)
    url, writable = _writable(url, parts)
    try:
        made, options = _engine_arguments(url, parts)
        dialect = made.get_dialect()
        driver = dialect.import_dbapi()
    except ImportError as error:
        raise missing_driver(parts.scheme, error) from error
    except (ArgumentError, NoSuchModuleError):
        raise InvalidOptionError(f"SQLAlchemy knows no such URL: {parts.scheme}") from None
    made, arguments = driver_arguments(made, driver.connect)
    options = {**options, "connect_args": arguments}
    is_async = dialect.get_async_dialect_cls(made).is_async
    return ConnectedCheck((_async_engine if is_async else _engine)(made, options, writable))


def _writable(url: str, parts: SplitResult) -> tuple[str, bool]:
    """Return the URL without our own argument, and what that says."""
    sent = [item for item in parts.query.split("&") if item.partition("=")[0] != "writable"]
    said = dict(parse_qsl(parts.query, keep_blank_values=True)).get("writable", "0")
    try:
        writable = flag(said)
    except ValueError as error:
        raise InvalidOptionError(f"writable {error}") from None
    head, mark, _ = url.partition("?")
    return f"{head}{mark}{'&'.join(sent)}", writable


def _engine_arguments(url: str, parts: SplitResult) -> tuple[URL, dict[str, object]]:
    from sqlalchemy import make_url
    from sqlalchemy.pool import NullPool

    # Many services hand out postgres://, which SQLAlchemy took until 1.4.
    made = make_url(re.sub(r"^postgres(?=[:+])", "postgresql", url))
    if made.get_backend_name() != "sqlite":
        if not {"host", "unix_socket"} & made.query.keys():  # which names a socket
            require_host(parts)
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


def _async_engine(url: URL, options: Mapping[str, Any], writable: bool) -> _Connect:
    async def connect() -> ConnectedClient:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(url, **options)
        check = DatabaseHealthCheck(engine.connect, writable=writable)
        return ConnectedClient(check, engine.dispose, reconnects=not writable)

    return connect


def _engine(url: URL, options: Mapping[str, Any], writable: bool) -> _Connect:
    async def connect() -> ConnectedClient:
        from sqlalchemy import create_engine

        engine = create_engine(url, **options)
        check = DatabaseHealthCheck(engine.connect, writable=writable)
        close = partial(run_blocking, engine.dispose)
        return ConnectedClient(check, close, reconnects=not writable)

    return connect


def _redis(url: str, parts: SplitResult) -> Check:
    url, writable = _writable(url, parts)
    make = redis_client(url, parts_of(url))

    async def connect() -> ConnectedClient:
        client = make()
        check = RedisHealthCheck(client, writable=writable)
        return ConnectedClient(check, client.aclose, reconnects=not writable)

    return ConnectedCheck(connect)


def _broker(url: str, parts: SplitResult) -> Check:
    require_client_library(parts.scheme)
    if len(hosts_of(parts)) > 1 and parts.scheme not in CLUSTERS:
        raise InvalidOptionError(f"a {parts.scheme} URL names one host")
    if parts.scheme in _AMQP:
        arguments_of(parts, *_AMQP_ARGUMENTS)
    else:
        require_bare(parts)

    async def connect() -> ConnectedClient:
        client, close = await connect_broker(url)
        return ConnectedClient(MessageBrokerHealthCheck(client), close, reconnects=False)

    return ConnectedCheck(connect)


def _http(_: str, parts: SplitResult) -> Check:
    require_host(parts)
    port_of(parts)
    _require_expect(parts)
    sent = [item for item in parts.query.split("&") if item.partition("=")[0] != "expect"]
    expect = dict(parse_qsl(parts.query)).get("expect", "200-299")
    return HttpHealthCheck(parts._replace(query="&".join(sent)).geturl(), expect=expect)


def _require_expect(parts: SplitResult) -> None:
    """Refuse an `expect` with a slip in it: it would be sent, and not heeded."""
    keys = [item.partition("=")[0] for item in parts.query.split("&")]
    slips = get_close_matches("expect", set(keys) - {"expect"}, n=1, cutoff=0.8)
    if slips and "expect" not in keys:
        raise InvalidOptionError(
            "an argument of it looks like expect, did you mean that? If not, percent-encode its "
            "first letter"
        )


def _tcp(_: str, parts: SplitResult) -> Check:
    arguments_of(parts)
    host, port = require_host(parts), port_of(parts)
    if port is None or parts.path.strip("/"):
        raise InvalidOptionError("it must be tcp://HOST:PORT")
    return TcpHealthCheck(host, port)


def _disk(_: str, parts: SplitResult) -> Check:
    said = arguments_of(parts, "min_free")
    if parts.netloc or not parts.path:
        raise InvalidOptionError("it must be disk:///PATH, with three slashes")
    free = size_of("min_free", said.get("min_free", "1GB"))
    return DiskSpaceHealthCheck(Path(unquote(parts.path)), min_free_bytes=free)


def _memory(_: str, parts: SplitResult) -> Check:
    said = arguments_of(parts, "min_available")
    if parts.netloc or parts.path:
        raise InvalidOptionError("it must be memory://?min_available=SIZE")
    return MemoryHealthCheck(
        min_available_bytes=size_of("min_available", said.get("min_available", "200MB"))
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
        raise InvalidOptionError(f"no check at {path!r}: {safe_text(str(error))}") from None
    # Of the module's own making, and so are its words; one may be a script that exits.
    except (Exception, SystemExit) as error:
        raise InvalidOptionError(f"importing {module!r} failed: {type(error).__name__}") from error
    if not callable(found) and not isinstance(found, HealthCheck):
        raise InvalidOptionError(f"{path!r} cannot be called, it is a {type(found).__name__}")
    return found


_AMQP = ("amqp", "amqps")
_AMQP_ARGUMENTS = (
    "auth",
    "cadata",
    "cafile",
    "capath",
    "certfile",
    "heartbeat",
    "keyfile",
    "name",
    "no_verify_ssl",
    "timeout",
)
_BUILDERS: Mapping[str, Callable[[str, SplitResult], Check]] = {
    **dict.fromkeys(("postgresql", "postgres", "mysql", "mariadb", "sqlite"), _database),
    **dict.fromkeys(("redis", "rediss", "unix"), _redis),
    **dict.fromkeys(BROKERS, _broker),
    **dict.fromkeys(("http", "https"), _http),
    "tcp": _tcp,
    "disk": _disk,
    "memory": _memory,
    "module": lambda path, _: _from_module(path),
}
