"""What a request says, read out of its ASGI scope: its path, what it accepts, tags, a token.

Whatever stands there a stranger wrote. What cannot be read counts as not said.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import TypeAlias, cast
from urllib.parse import unquote_to_bytes

__all__ = [
    "Message",
    "Receive",
    "Scope",
    "Send",
    "accepted",
    "bearer_token",
    "path_below_mount",
    "tags_asked_for",
]

Message: TypeAlias = "MutableMapping[str, object]"
Scope: TypeAlias = "MutableMapping[str, object]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"

MAX_ACCEPT_BYTES = 4_096
MAX_TAGS = 64

# RFC 9110, 12.4.2: from 0 to 1 with at most three decimals.
_WEIGHT = re.compile(rb"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


def path_below_mount(scope: Scope) -> str:
    """Return the path below the mount point; ASGI has `path` include `root_path`."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def accepted(scope: Scope, offered: Sequence[bytes]) -> bytes:
    """Return the one of the offered media types that the `Accept` of a request likes best.

    By its q-values, then what it names outright over what only a wildcard takes, then the order of
    `offered`. The first of these is also the answer to whoever accepts none of them, or says
    something malformed: to be told how it is in another format is better than not to be told.
    """
    header = b",".join(_values(scope, b"accept"))
    if not header or len(header) > MAX_ACCEPT_BYTES:
        return offered[0]
    ranges = dict(_ranges(header))
    likings = {media_type: _liking(media_type, ranges) for media_type in offered}
    best = max(offered, key=likings.__getitem__)
    return best if likings[best][0] > 0 else offered[0]


def tags_asked_for(scope: Scope) -> frozenset[str] | None:
    """Return every `tag=` of the query, or `None` if they are too many."""
    query = cast("bytes", scope.get("query_string", b""))
    said = [field[4:] for field in query.split(b"&") if field.startswith(b"tag=")]
    return frozenset(map(_decoded, said)) if len(said) <= MAX_TAGS else None


def bearer_token(scope: Scope) -> bytes | None:
    """Return the token of the one `Authorization: Bearer ...` of a request."""
    values = _values(scope, b"authorization")
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return None if match is None else match[1]


def _decoded(value: bytes) -> str:
    return unquote_to_bytes(value.replace(b"+", b" ")).decode(errors="replace")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    fields = cast("Iterable[tuple[bytes, bytes]]", scope.get("headers", ()))
    return [value for field, value in fields if field.lower() == name]


def _ranges(header: bytes) -> Iterator[tuple[bytes, float]]:
    """Return each media range with its weight; what is malformed is left out."""
    for said in header.split(b","):
        media_range, *parameters = (part.strip(b" \t").lower() for part in said.split(b";"))
        weights = [part[2:] for part in parameters if part.startswith(b"q=")] or [b"1"]
        if _WEIGHT.fullmatch(weights[0]):
            yield media_range, float(weights[0])


def _liking(media_type: bytes, ranges: dict[bytes, float]) -> tuple[float, int]:
    """Return the weight of a type, by the range that fits it most closely, and how closely."""
    whole_kind = media_type.partition(b"/")[0] + b"/*"
    for closeness, media_range in ((2, media_type), (1, whole_kind), (0, b"*/*")):
        if media_range in ranges:
            return ranges[media_range], closeness
    return 0.0, 0
