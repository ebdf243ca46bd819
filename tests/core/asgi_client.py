"""A client that talks to an ASGI application in its own process, as a server would."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import NamedTuple, TypeAlias, cast

from cqrs_ddd_health.web.asgi import HealthApp

Message: TypeAlias = "MutableMapping[str, object]"


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
    app: HealthApp, path: str, method: str = "GET", *, root_path: str | None = None
) -> Response:
    """Send one request; `path` is the decoded one, as a server puts it into the scope."""
    sent: list[Message] = []
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
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


async def converse(app: HealthApp, kind: str, *received: str) -> list[str]:
    """Have the application follow a scope of that kind, and return the types of what it sent."""
    sent: list[str] = []
    coming = iter(received)

    async def receive() -> Message:
        return {"type": next(coming)}

    async def send(message: Message) -> None:
        sent.append(cast("str", message["type"]))

    await app({"type": kind}, receive, send)
    return sent
