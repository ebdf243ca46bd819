"""A client that talks to an ASGI application in its own process, as a server would."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from cqrs_ddd_health.web.asgi import Message, Receive, Scope, Send

Application: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"


class Response(NamedTuple):
    """What the application sent."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))


async def request(
    app: Application,
    path: str,
    method: str = "GET",
    *,
    root_path: str | None = None,
    query: str | bytes = b"",
    headers: Mapping[str, str] | None = None,
    raw_headers: Sequence[tuple[bytes, bytes]] = (),
) -> Response:
    """Send one request; `path` is the decoded one, as a server puts it into the scope."""
    sent: list[Message] = []
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode() if isinstance(query, str) else query,
        "headers": [
            *((name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()),
            *raw_headers,
        ],
    }
    if root_path is not None:
        scope["root_path"] = root_path

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert {message["type"] for message in bodies} == {"http.response.body"}
    raw = cast("list[tuple[bytes, bytes]]", start["headers"])
    headers = {name.decode(): value.decode() for name, value in raw}
    assert len(headers) == len(raw)
    body = b"".join(cast("bytes", message.get("body", b"")) for message in bodies)
    return Response(cast("int", start["status"]), headers, body)


async def converse(
    app: Application, kind: str, *received: str, seen: Callable[[], None] = lambda: None
) -> list[str]:
    """Have the application follow a scope of that kind, and return the types of what it sent.

    `seen` is called each time that it waits for the server.
    """
    sent: list[str] = []
    coming = iter(received)

    async def receive() -> Message:
        seen()
        return {"type": next(coming)}

    async def send(message: Message) -> None:
        sent.append(cast("str", message["type"]))

    await app({"type": kind}, receive, send)
    return sent
