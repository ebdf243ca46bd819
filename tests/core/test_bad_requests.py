"""Whatever is asked: never a 500, never an echo; and odd names are shown as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from html import unescape
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.web.asgi import health_app
from tests.core.actors import Told
from tests.core.asgi_client import Response, request
from tests.core.strategies import names
from tests.examples import examples

T = TypeVar("T")

ROUTES = ["", "/live", "/ready", "/startup", "/report", "/report/", "/page", "/nothing"]
MARK = "m4rk"
bodies = st.one_of(
    st.text(max_size=40), st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))
)
marked = bodies.map(lambda text: f"{text}{MARK}{text}")
paths = st.one_of(
    st.sampled_from(ROUTES),
    st.builds("{}{}".format, st.sampled_from(ROUTES), marked),
    st.builds("{}/{}".format, st.sampled_from(ROUTES), marked),
)
fields = st.lists(
    st.tuples(
        st.sampled_from([b"accept", b"authorization", b"ACCEPT", b"x-forwarded-for", b"host"]),
        st.one_of(
            st.binary(max_size=50),
            st.sampled_from(
                [b"*/*", b"Bearer " + b"x" * 9_000, b"a/b;q=" + b"9" * 5_000, b"," * 9_000]
            ),
        ),
    ),
    max_size=6,
)
methods = st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "", "\u00fc", "get"])


def run(coroutine: Coroutine[None, None, T]) -> T:
    return asyncio.run(coroutine)


def registry_of(name: str = "database", detail: Detail = "authorized") -> HealthRegistry:
    given_settings = HealthSettings.model_validate(
        {"detail": detail, "bearer_token": "0123456789abcdef", "http_max_age_seconds": 60}
    )
    registry = HealthRegistry(settings=given_settings)
    registry.register(name, Told(), tags=[name])
    return registry


@settings(max_examples=examples(300))
@given(paths, methods, st.binary(max_size=60), fields)
def test_no_request_is_answered_with_500_or_an_echo(
    path: str, method: str, query: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    headers = [(name, value + MARK.encode()) for name, value in headers]
    query = b"tag=" + query + MARK.encode()
    answer = run(
        request(
            health_app(registry_of()),
            f"/health{path}",
            method,
            query=query,
            raw_headers=headers,
        )
    )
    assert answer.code in {200, 404, 405}
    assert MARK not in answer.text
    assert MARK not in str(answer.headers)
    if method != "HEAD" and answer.headers["content-type"] == "application/json":
        json.loads(answer.body)


async def test_what_a_server_may_leave_out_of_a_scope_is_not_missed() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        raise AssertionError("no body is read")

    scope: dict[str, object] = {"type": "http", "method": "GET", "path": "/health/report"}
    await health_app(registry_of())(scope, receive, send)
    assert len(sent) == 2


def shown(name: str, path: str, **headers: str) -> Response:
    return run(request(health_app(registry_of(name)), f"/health{path}", headers=headers))


ODD = [
    *("a/b", "/", "//", "..", ".", "a/../b", "%2F", "%", "a b", "a?b=c#d", "a&b=c;d", "'\"", "\\"),
    *("<b>x</b>", "&amp;", "</script>", "\u00fc\u4e2d\U0001f600", "e\u0301", "$status", "{x}"),
    *("report", "live", "database/", "a:b", "a%3Ab", "*", "null", "x" * 128, "\u00df" * 128),
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_something_would_misread_is_shown_right_everywhere(name: str) -> None:
    row = shown(name, f"/report/{name}")
    assert (row.code, row.json["name"], row.json["tags"]) == (200, name, [name])
    assert [part["name"] for part in json.loads(shown(name, "/report").text)["components"]] == [
        name
    ]
    assert list(json.loads(shown(name, "").text)["components"]) == [name]
    assert list(json.loads(shown(name, "/ready").text)["components"]) == [name]
    health = json.loads(shown(name, "/report", accept="application/health+json").text)
    ((key, (entry,)),) = health["checks"].items()
    assert (entry["componentId"], key.partition(":")[0].replace("%3A", ":")) in {
        (name, name),
        (name, name.replace("%3A", ":")),
    }
    assert name in unescape(shown(name, "/page").text)


@settings(max_examples=examples(60))
@given(names)
def test_any_legal_name_has_a_path_and_a_query_of_its_own(name: str) -> None:
    async def ask() -> tuple[Response, Response]:
        app = health_app(registry_of(name))
        by_path = await request(app, f"/health/report/{name}")
        query = "tag=" + "".join(f"%{byte:02x}" for byte in name.encode())
        return by_path, await request(app, "/health/report", query=query)

    by_path, by_query = run(ask())
    assert by_path.json["name"] == name
    assert (by_query.code, name in json.dumps(by_query.json, ensure_ascii=False)) in {
        (200, True),
        (200, json.dumps(name, ensure_ascii=False)[1:-1] == name),
    }
