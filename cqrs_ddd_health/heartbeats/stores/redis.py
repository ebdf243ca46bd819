"""The heartbeat store in Redis, by redis-py's asyncio client.

A namespace is four keys with one hash tag, so that a cluster keeps them together:

- a hash with a value for each beat: a JSON list of the server's clock and of what was published;
- a sorted set of the same fields by when each may be removed;
- a hash with the field of each worker that was published last: that one is not removed;
- a sorted set of the fields that were published within a minute, by when: of too many, the living
  are found there. What publishers of before it was there have published is not in it.

Each call is one script: Redis runs it as a whole, and the clock is its own. No key is without an
expiry, so that nothing is left behind of a service that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import cast
from urllib.parse import quote

from pydantic_core import from_json

from cqrs_ddd_health.clients.redis import RedisClient, owner_in, redis_client
from cqrs_ddd_health.clients.urls import parts_of, scheme_of
from cqrs_ddd_health.clients.writability import refusal_of_redis
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.domain.options import require_count
from cqrs_ddd_health.domain.protocols import BeatsRead, StoredBeat
from cqrs_ddd_health.domain.redaction import hide, secrets_of_url
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.runtime.loop_local import PerLoop

from .rows import (
    KEPT_SECONDS,
    KEPT_TIMEOUTS,
    MAX_BYTES,
    MAX_PRUNED,
    ColumnsReader,
    columns_of_rows,
    read_of,
)

__all__ = ["RedisHeartbeatStore"]

_SCHEMES = ("redis", "rediss", "unix")
_MAX_TIMEOUT_SECONDS = 1e8
# Four names of 128 characters, each of which takes JSON twelve at most, and numbers.
_MAX_VALUE = 8_192

_RECENT_SECONDS = 60
"""Who lives has published within this time, whatever its timeout: it does every 5 s."""

# ARGV: of each beat its field, its value but for the clock, and how many ms it is kept.
_PUBLISH = f"""
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local clock = '[' .. now[1] .. '.' .. string.format('%06d', now[2]) .. ','
local longest = {KEPT_SECONDS * 1000:.0f}
local values, kept, recent, last = {{}}, {{}}, {{}}, {{}}
local function add(words, one, other)
    words[#words + 1] = one
    words[#words + 1] = other
end
local function say(command, key, words)
    for first = 1, #words, 1000 do
        redis.call(command, key, unpack(words, first, math.min(first + 999, #words)))
    end
end
for i = 1, #ARGV, 3 do
    local field, kept_ms = ARGV[i], tonumber(ARGV[i + 2])
    add(values, field, clock .. ARGV[i + 1])
    add(kept, now_ms + kept_ms, field)
    add(recent, now_ms, field)
    last[string.match(field, '^[^\\n]*')] = field
    longest = math.max(longest, kept_ms)
end
say('HSET', KEYS[1], values)
say('ZADD', KEYS[2], kept)
say('ZADD', KEYS[4], recent)
local latest = {{}}
for worker, field in pairs(last) do add(latest, worker, field) end
say('HSET', KEYS[3], latest)
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, {MAX_PRUNED})
for _, field in ipairs(old) do
    if redis.call('HGET', KEYS[3], string.match(field, '^[^\\n]*')) == field then
        redis.call('ZADD', KEYS[2], now_ms + {KEPT_SECONDS * 1000:.0f}, field)
    else
        redis.call('ZREM', KEYS[2], field)
        redis.call('HDEL', KEYS[1], field)
    end
end
local before = now_ms - {_RECENT_SECONDS * 1000}
say('ZREM', KEYS[4], redis.call(
    'ZRANGEBYSCORE', KEYS[4], '-inf', before, 'LIMIT', 0, {MAX_PRUNED}))
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, math.max(longest, redis.call('PTTL', key)))
end
"""

# ARGV: how many values at most, of how many bytes together, and of how many each. Where all are
# few and short, all are read. Otherwise those that were published last come first, then what a
# clock that was set back since has put into the future, then those that are kept the longest. A
# value is not touched before its length is known, and beyond so many fields no more are looked at.
_READ = f"""
local now = redis.call('TIME')
local clock = now[1] .. '.' .. string.format('%06d', now[2])
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local total = redis.call('HLEN', KEYS[1])
local most, room, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if total <= most then
    local used = redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)
    if not used or type(used) == 'number' and used <= room then
        return {{clock, total, 0, redis.call('HVALS', KEYS[1])}}
    end
end
local values, known, looked, is_full = {{}}, {{}}, 0, false
local function take(field)
    local length = redis.call('HSTRLEN', KEYS[1], field)
    local is_short = length > 0 and length <= longest
    is_full = looked > 3 * most + 1000 or is_short and (#values == most or length > room)
    if is_full then return end
    known[field], looked = true, looked + 1
    if is_short then
        room = room - length
        values[#values + 1] = redis.call('HGET', KEYS[1], field)
    end
end
local function take_all(command, key, ...)
    local first = 0
    repeat
        local words = {{...}}
        if command == 'ZREVRANGE' then
            words = {{first, first + 999}}
        else
            words[3], words[4], words[5] = 'LIMIT', first, 1000
        end
        local fields = redis.call(command, key, unpack(words))
        for _, field in ipairs(fields) do
            if not known[field] then take(field) end
            if is_full then return end
        end
        first = first + 1000
    until #fields == 0
end
local ahead = now_ms + 1000
take_all('ZREVRANGEBYSCORE', KEYS[4], ahead, now_ms - {_RECENT_SECONDS * 1000})
if not is_full then take_all('ZRANGEBYSCORE', KEYS[4], '(' .. ahead, '+inf') end
if not is_full then take_all('ZREVRANGE', KEYS[2]) end
local unread = 0
if is_full then
    unread = math.max(redis.call('ZCARD', KEYS[2]) - looked, 1)
end
return {{clock, total, math.min(unread, total - #values), values}}
"""

# ARGV: the field.
_RETIRE = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
local worker = string.match(ARGV[1], '^[^\\n]*')
if redis.call('HGET', KEYS[3], worker) == ARGV[1] then
    redis.call('HDEL', KEYS[3], worker)
end
"""


class RedisHeartbeatStore:
    """Beats in a Redis that all processes of a service can reach.

    `url` is `redis://host:port/database`, `rediss://` with TLS or `unix:///socket`. Stores with
    another `namespace` ("default" if none is given) see nothing of each other.

    In a cluster the URL may name any node: the one that has the beats is found, and found again
    after it has changed.

    One client is held for each event loop that asks, and opened anew after a write that was
    refused: behind its address another server may be the primary now. No call bounds its own time,
    unless the URL says `socket_timeout`: whoever is not willing to wait cancels it. A command that
    was sent to a Redis that is frozen runs when that goes on, although nobody waits for it any
    more: a worker that died meanwhile may look alive for one timeout. A Redis that cannot do what
    it is asked raises redis-py's errors.

    A read brings no more than `max_rows` values (10,000) and 16 MB of them, those of who published
    last first; the rest is counted in `dropped`, and a value that is too long for a beat never
    leaves Redis. Each publish removes some beats of processes that are long gone.

    Raises:
        InvalidOptionError: if the URL is none of these, or an option is out of its range.
        InvalidNameError: if the namespace is no name.
        ImportError: if redis-py is not installed.
    """

    def __init__(self, url: str, *, namespace: str = "default", max_rows: int = 10_000) -> None:
        require_name(namespace, "namespace of heartbeats")
        self._max_rows = require_count("max_rows", max_rows, 1)
        hide(secrets_of_url(url))
        scheme = scheme_of(url)
        if scheme not in _SCHEMES:
            raise InvalidOptionError(f"it may be of {', '.join(_SCHEMES)}")
        url = f"{scheme}{url[len(scheme) :]}"
        self._parts = parts_of(url)
        self._make = redis_client(url, self._parts, socket_timeout=None)
        self._owner: str | None = None
        """The node of a cluster that has the keys, if it is not the one of the URL."""
        tag = f"{{cqrs-health:{quote(namespace)}}}"  # a brace in the name would end it
        self._keys = (f"{tag}:beats", f"{tag}:kept", f"{tag}:last", f"{tag}:recent")
        self._clients = PerLoop(self._open, _close)
        self._columns = ColumnsReader()

    def begin_process(self) -> None:
        """Start anew in a forked child: the connections are the parent's."""
        self._clients.begin_process()

    async def publish(self, beats: Sequence[StoredBeat]) -> None:
        """Put these beats in place of what is held under their (worker, instance, token)."""
        if beats:
            words = (word for beat in beats for word in _words(beat))
            await self._write(_PUBLISH, *words)

    async def read(self) -> BeatsRead:
        """Return the beats that are held, and Redis's clock at that moment."""
        answer = await self._run(_READ, self._max_rows, MAX_BYTES, _MAX_VALUE)
        clock, total, unread, values = cast("tuple[bytes, int, int, list[bytes]]", answer)
        columns, left_out = _columns(values), total - len(values)
        if columns is None:
            read = read_of(float(clock), list(map(_row, values)), left_out)
        else:
            read = self._columns.read_of(float(clock), columns, left_out)
        return read._replace(unread=unread)

    async def behind_seconds(self) -> float | None:
        """Return when it last heard of what is published, in seconds ago: 0 of a primary.

        A replica that hears nothing any more, and a server that refuses writes, is infinitely far
        behind. None if it does not say.
        """
        try:
            async with self._clients.lend() as client:
                info = cast("Mapping[str, object]", await client.execute_command("INFO"))
        except Exception as error:
            if type(error).__name__ != "NoPermissionError":
                raise
            return None
        if info.get("role") == "slave":
            linked = info.get("master_link_status") == "up"
            # Of which Redis says the whole seconds.
            return float(str(info["master_last_io_seconds_ago"])) + 1 if linked else inf
        return 0.0 if refusal_of_redis(info, {}) is None else inf

    async def retire(self, worker: str, instance: str, token: str) -> None:
        """Remove that one beat; do nothing if it is not held."""
        await self._write(_RETIRE, _field(worker, instance, token))

    async def reconnect(self) -> None:
        """Have the next call connect anew, at the address of the URL; who is asking goes on."""
        self._owner = None
        await self._clients.exchange()

    async def close(self) -> None:
        """Close the connections of all loops. Wanted again, they are opened again."""
        await self._clients.aclose()

    async def _write(self, script: str, *words: object) -> None:
        try:
            await self._run(script, *words)
        except Exception:
            # Whatever it was: this server may be a replica by now, or leave, or be no part of its
            # cluster any more, and all that it says of that is that it takes no writes.
            await self.reconnect()
            raise

    async def _run(self, script: str, *words: object) -> object:
        try:
            return await self._eval(script, *words)
        except Exception as error:
            owner = owner_in(error, self._parts)
            if owner is None:
                raise
        self._owner = owner
        await self._clients.exchange()
        return await self._eval(script, *words)

    async def _eval(self, script: str, *words: object) -> object:
        async with self._clients.lend() as client:
            # With its text each time: that is less than one beat in ten, and Redis, which knows a
            # script that it has seen, may have been emptied or restarted since.
            return await client.execute_command(
                "EVAL", script, len(self._keys), *self._keys, *words, NEVER_DECODE=True
            )

    async def _open(self) -> RedisClient:
        return self._make(self._owner)


async def _close(client: RedisClient) -> None:
    await client.aclose()


def _words(beat: StoredBeat) -> Iterator[object]:
    yield _field(beat.worker, beat.instance, beat.token)
    seconds = map(float, (beat.age_seconds, beat.timeout_seconds, beat.publish_interval_seconds))
    published = [*beat[:4], *seconds, beat.phase, beat.progress]
    yield json.dumps(published)[1:]  # without its bracket: the clock goes before it
    kept_seconds = KEPT_SECONDS + KEPT_TIMEOUTS * min(beat.timeout_seconds, _MAX_TIMEOUT_SECONDS)
    yield int(1_000 * kept_seconds)


def _field(worker: str, instance: str, token: str) -> str:
    return f"{worker}\n{instance}\n{token}"  # no name has such a character


def _columns(values: Sequence[bytes]) -> Sequence[Sequence[object]] | None:
    """Return the fields of all beats by column; read as one document, which takes less time."""
    if not values or max(map(len, values)) > _MAX_VALUE:
        return None
    try:
        found = cast("list[object]", from_json(b"[%b]" % b",".join(values)))
    except ValueError:
        return None
    if len(found) != len(values) or set(map(type, found)) != {list}:
        return None
    rows, width = cast("list[list[object]]", found), len(StoredBeat._fields)
    if set(map(len, rows)) != {width}:
        return None
    stamps, *published = columns_of_rows(rows, width)
    return None if None in stamps else [*published, stamps]


def _row(value: bytes) -> Sequence[object]:
    """Return the fields of a beat in their order, or whatever else is no row."""
    if len(value) > _MAX_VALUE:
        return ()
    try:
        found: object = from_json(value)
    except ValueError:
        return ()
    if not isinstance(found, list):
        return ()
    stamp, *published = cast("list[object]", found) or [None]
    # Nothing but SQLite has rows of another start of the machine.
    return () if stamp is None else (*published, stamp)
