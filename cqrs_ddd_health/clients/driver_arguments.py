"""What the query of a database's URL may say, and what its driver is given then.

SQLAlchemy hands a query to the driver as it stands. A driver that does not know an argument, or
wants it as something else than a text, fails when it first connects, and again each time: the
application would start, and say for ever that a well database is down. So each argument is looked
at before, and given to the driver in its own words: `sslmode`, which hosters hand out, is libpq's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urlencode

from .argument_values import (
    Place,
    Places,
    Told,
    count,
    file,
    flag,
    one_of,
    places,
    seconds,
    text,
    told_by,
    whole_seconds,
)
from .mysql_tls import TLS, tls_context, tls_mode

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["driver_arguments"]


def driver_arguments(url: URL, connect: Callable[..., object]) -> tuple[URL, Told]:
    """Return the URL with what stays in it, and what the driver is given beside it.

    `connect` is the driver's own. asyncpg and psycopg are told to prepare no statement under a
    name, unless the URL says otherwise: behind a pooler such as PgBouncer in transaction mode the
    next statement may meet another connection of the server, where somebody else's has that name.

    Raises:
        InvalidOptionError: if the driver has no such argument, or cannot use its value.
    """
    driver = url.get_driver_name().removesuffix("_async")
    known, give = _DRIVERS.get(driver) or (_arguments_of(connect, url), _as_they_are)
    if known is _SQLITE and "uri" in url.query:
        known = _SQLITE_URI
    told = told_by(url.drivername, url.query, known)
    kept = {name: said for name, said in url.query.items() if known[name].stays}
    return url.set(query=kept), give(told)


def _arguments_of(connect: Callable[..., object], url: URL) -> Places:
    """Return those of a driver that is not known here, as far as it says itself."""
    try:
        parameters = inspect.signature(connect).parameters
    except (TypeError, ValueError):  # a function in C, which may say nothing
        return places(text, *url.query, stay=True)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return places(text, *parameters, *(url.query if takes_any else ()), stay=True)


def _as_they_are(told: Told) -> Told:
    return told


# --- PostgreSQL

_SSLMODE = one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSION = one_of("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_HOSTS = places(text, "host", "port", stay=True)


def _threshold(said: str) -> int | None:
    return None if said.lower() == "none" else count(said)


def _limit_of_libpq(said: str) -> int:
    return 0 if said == "0" else whole_seconds(said)  # 0 is none


def _authority(said: str) -> str:
    return said if said == "system" else file(said)


def _ssl_of_asyncpg(said: str) -> object:
    return {"true": True, "false": "disable"}.get(said) or _SSLMODE(said)


_LIBPQ: Places = {
    **_HOSTS,
    **places(_SSLMODE, "sslmode"),
    **places(_SESSION, "target_session_attrs"),
    **places(_authority, "sslrootcert"),
    **places(file, "sslcert", "sslkey", "sslcrl"),
    **places(_limit_of_libpq, "connect_timeout"),
    **places(count, "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    **places(count, "tcp_user_timeout", "sslcompression", "sslsni", "gssdelegation"),
    **places(one_of("disable", "prefer", "require"), "channel_binding", "gssencmode"),
    **places(one_of("disable", "random"), "load_balance_hosts"),
    **places(one_of("postgres", "direct"), "sslnegotiation"),
    **places(one_of("disable", "allow", "require"), "sslcertmode"),
    **places(text, "user", "password", "passfile", "service", "hostaddr", "dbname", "options"),
    **places(text, "application_name", "fallback_application_name", "client_encoding"),
    **places(text, "sslpassword", "sslcrldir", "requirepeer", "require_auth"),
    **places(text, "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
}
_PSYCOPG: Places = {**_LIBPQ, **places(_threshold, "prepare_threshold")}

# Libpq's arguments of TLS are given as a DSN: asyncpg makes of that what libpq would.
_ASYNCPG: Places = {
    **_HOSTS,
    **places(count, "statement_cache_size", "prepared_statement_cache_size"),
    **places(count, "max_cached_statement_lifetime", "max_cacheable_statement_size"),
    **places(seconds, "timeout", "command_timeout"),
    "connect_timeout": Place(seconds, ("timeout",)),
    **places(_ssl_of_asyncpg, "ssl"),
    **places(flag, "direct_tls"),
    **places(_SESSION, "target_session_attrs"),
    **places(text, "user", "password", "database", "passfile", "service", "servicefile"),
    "dbname": Place(text, ("database",)),
    **places(text, "krbsrvname", "gsslib"),
    **places(_SSLMODE, "sslmode", into=("dsn",)),
    **places(file, "sslrootcert", "sslcert", "sslkey", "sslcrl", into=("dsn",)),
    **places(text, "sslpassword", into=("dsn",)),
    **places(text, "ssl_min_protocol_version", "ssl_max_protocol_version", into=("dsn",)),
    **places(text, "application_name", "options", "search_path", into=("server_settings",)),
}


def _to_asyncpg(told: Told) -> Told:
    given: Told = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, **told}
    if not given["prepared_statement_cache_size"]:
        given["prepared_statement_name_func"] = str  # which makes an empty one: no name
    if "dsn" in given:
        given["dsn"] = f"postgresql://?{urlencode(cast('Mapping[str, str]', given['dsn']))}"
    return given


def _to_psycopg(told: Told) -> Told:
    return {"prepare_threshold": None, **told}


# --- MySQL and MariaDB

_MYSQL: Places = {
    **TLS,
    **places(text, "host", "unix_socket", stay=True),
    **places(count, "client_flag", stay=True),
    **places(text, "user", "password", "charset", "init_command", "sql_mode", "read_default_group"),
    **places(file, "read_default_file"),
    **places(whole_seconds, "connect_timeout"),
    **places(flag, "local_infile", "use_unicode", "autocommit"),
}
_AIOMYSQL: Places = {
    **_MYSQL,
    **places(flag, "echo"),
    **places(text, "program_name", "auth_plugin"),
}
_ASYNCMY: Places = {
    **_MYSQL,
    **places(flag, "echo", "binary_prefix"),
    **places(text, "program_name"),
    **places(count, "max_allowed_packet", "stmt_cache_size"),
    **places(whole_seconds, "read_timeout"),
}
_PYMYSQL: Places = {
    **_MYSQL,
    **places(flag, "binary_prefix"),
    **places(text, "program_name", "collation", "bind_address"),
    **places(count, "max_allowed_packet"),
    **places(whole_seconds, "read_timeout", "write_timeout"),
}
_MYSQLCLIENT: Places = {
    **_MYSQL,
    **places(flag, "compress", "binary_prefix"),
    **places(text, "collation", "auth_plugin"),
    **places(whole_seconds, "read_timeout", "write_timeout"),
}


def _with_context(told: Told) -> Told:
    tls = cast("Told | None", told.pop("tls", None))
    context = None if tls is None else tls_context(tls)
    return told if context is None else {**told, "ssl": context}


def _to_pymysql(told: Told) -> Told:
    """Say so where none is wanted: this driver takes what a server offers."""
    wanted = "tls" in told
    given = _with_context(told)
    return {**given, "ssl_disabled": True} if wanted and "ssl" not in given else given


def _to_mysqlclient(told: Told) -> Told:
    tls = cast("Told | None", told.pop("tls", None))
    if tls is None:
        return told
    files = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_capath", "ssl_cipher")
    ssl = {name.removeprefix("ssl_"): tls[name] for name in files if name in tls}
    return {**told, "ssl_mode": tls_mode(tls), **({"ssl": ssl} if ssl else {})}


# --- SQLite

_SQLITE: Places = {
    **places(flag, "uri", "check_same_thread", stay=True),
    **places(seconds, "timeout", stay=True),
    **places(count, "cached_statements", "detect_types", stay=True),
    **places(one_of("DEFERRED", "IMMEDIATE", "EXCLUSIVE"), "isolation_level", stay=True),
}
_SQLITE_URI: Places = {
    **_SQLITE,
    **places(one_of("ro", "rw", "rwc", "memory"), "mode", stay=True),
    **places(one_of("shared", "private"), "cache", stay=True),
    **places(flag, "immutable", "nolock", "psow", stay=True),
    **places(text, "vfs", "modeof", stay=True),
}

_Give: TypeAlias = "Callable[[Told], Told]"

_DRIVERS: Mapping[str, tuple[Places, _Give]] = {
    "asyncpg": (_ASYNCPG, _to_asyncpg),
    "psycopg": (_PSYCOPG, _to_psycopg),
    "psycopg2": (_LIBPQ, _as_they_are),
    "aiomysql": (_AIOMYSQL, _with_context),
    "asyncmy": (_ASYNCMY, _with_context),
    "pymysql": (_PYMYSQL, _to_pymysql),
    "mysqldb": (_MYSQLCLIENT, _to_mysqlclient),
    "aiosqlite": (_SQLITE, _as_they_are),
    "pysqlite": (_SQLITE, _as_they_are),
}
