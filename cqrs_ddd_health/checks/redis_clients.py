"""Clients of Redis from URLs, for checks and whatever else connects to it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import SplitResult

from cqrs_ddd_health.errors import InvalidOptionError

from .urls import missing_extra, port_of, require_host

__all__ = ["RedisClient", "redis_client"]


class RedisClient(Protocol):
    """As much of redis-py's asyncio client as is used; its own signatures are partly unknown."""

    def ping(self) -> object: ...
    def execute_command(self, *words: object, **options: object) -> Awaitable[object]: ...
    def aclose(self) -> Awaitable[object]: ...


def redis_client(url: str, parts: SplitResult, **options: object) -> Callable[[], RedisClient]:
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
    except (TypeError, ValueError):
        raise InvalidOptionError("redis-py cannot use it, see redis.Redis.from_url") from None
    make = cast("Callable[..., RedisClient]", redis.Redis.from_url)
    # One more try, at once: a connection that a restart of the server has closed is no failure.
    return partial(make, url, retry=Retry(NoBackoff(), 1), **options)
