"""Clients of Redis from URLs, for checks and whatever else connects to it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import SplitResult, parse_qsl

from cqrs_ddd_health.errors import InvalidOptionError

from .argument_values import (
    Places,
    ciphers,
    codec,
    count,
    directory,
    file,
    flag,
    one_of,
    places,
    seconds,
    text,
    told_by,
)
from .urls import missing_extra, port_of, require_host

__all__ = ["MakeRedisClient", "RedisClient", "owner_in", "redis_client"]


class RedisClient(Protocol):
    """As much of redis-py's asyncio client as is used; its own signatures are partly unknown."""

    def ping(self) -> object: ...
    def execute_command(self, *words: object, **options: object) -> Awaitable[object]: ...
    def aclose(self) -> Awaitable[object]: ...


class MakeRedisClient(Protocol):
    """Makes a client of a URL; with `owner`, of another node of its cluster, as `host:port`."""

    def __call__(self, owner: str | None = None) -> RedisClient: ...


def redis_client(url: str, parts: SplitResult, **options: object) -> MakeRedisClient:
    """Return what makes a client of that URL; what it says itself goes before the options.

    Raises:
        InvalidOptionError: if redis-py cannot use the URL.
        ImportError: if redis-py is not installed.
    """
    try:
        redis = import_module("redis.asyncio")  # whose class methods are not typed
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise missing_extra("redis") from error
    if parts.scheme == "unix":
        if parts.netloc or not parts.path:
            raise InvalidOptionError("it must be unix:///PATH, with three slashes")
    else:
        require_host(parts)
        port_of(parts)
        if not re.fullmatch("/?[0-9]*", parts.path):
            raise InvalidOptionError("its path must be the number of a database: redis://HOST/0")
    try:
        redis.ConnectionPool.from_url(url).make_connection()
    except Exception:  # whatever it makes of a text where it wants an object
        raise InvalidOptionError("redis-py cannot use it, see redis.Redis.from_url") from None
    told_by(parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True)), _ARGUMENTS)
    from_url = cast("Callable[..., RedisClient]", redis.Redis.from_url)

    def make(owner: str | None = None) -> RedisClient:
        userinfo, at, _ = parts.netloc.rpartition("@")
        at_owner = (
            url if owner is None else parts._replace(netloc=f"{userinfo}{at}{owner}").geturl()
        )
        # One more try, at once: a connection that a restart of the server has closed is no failure.
        return from_url(at_owner, retry=Retry(NoBackoff(), 1), **options)

    return make


def owner_in(error: Exception, parts: SplitResult) -> str | None:
    """Return the node of a cluster that has what was asked for, if that is what the error says."""
    if type(error).__name__ != "MovedError":
        return None
    host, port = getattr(error, "host", ""), getattr(error, "port", 0)
    # A node that does not know its own name leaves it out: it is the one that was asked.
    host = host or parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# What redis-py takes besides are objects of Python: as a text they fail when it first connects.
_ARGUMENTS: Places = {
    **places(text, "username", "password", "client_name", "lib_name", "lib_version"),
    **places(count, "db", "max_connections", "socket_read_size", "health_check_interval"),
    **places(seconds, "socket_timeout", "socket_connect_timeout"),
    **places(flag, "socket_keepalive", "retry_on_timeout", "decode_responses"),
    **places(one_of("2", "3"), "protocol"),
    **places(codec, "encoding"),
    **places(one_of("strict", "ignore", "replace", "backslashreplace"), "encoding_errors"),
    # Of rediss.
    **places(file, "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
    **places(directory, "ssl_ca_path"),
    **places(one_of("none", "optional", "required"), "ssl_cert_reqs"),
    **places(flag, "ssl_check_hostname"),
    **places(ciphers, "ssl_ciphers"),
    **places(text, "ssl_password"),
}
