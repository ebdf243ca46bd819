"""What a request says: the media type that it likes best, tags, a token; and what says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health.web.request import accepted, bearer_token, path_below_mount, tags_asked_for

JSON, HEALTH = b"application/json", b"application/health+json"
OFFERED = (JSON, HEALTH)


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/health", None, "/health"),
        ("/health", "", "/health"),
        ("/health", "/", "/health"),
        ("/api/health", "/api", "/health"),
        ("/api/health", "/api/", "/health"),
        ("/api", "/api", ""),
        ("/apiary/health", "/api", "/apiary/health"),
        ("/health", "/api", "/health"),
    ],
)
def test_what_is_below_the_mount_point(path: str, root: str | None, below: str) -> None:
    scope = {"path": path} if root is None else {"path": path, "root_path": root}
    assert path_below_mount(dict(scope)) == below


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # whoever says nothing, or nothing of interest
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/html", JSON),
        ("text/html, image/*;q=0.1", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),  # a browser
        # by name
        ("application/json", JSON),
        ("application/health+json", HEALTH),
        ("Application/HEALTH+Json", HEALTH),
        ("application/health+json; charset=utf-8", HEALTH),
        ("text/html , application/health+json", HEALTH),
        # both by name: the order is ours, not that of the header
        ("application/health+json, application/json", JSON),
        # what is named outright, before what only a wildcard takes
        ("application/health+json, */*", HEALTH),
        ("*/*, application/health+json", HEALTH),
        ("application/health+json, application/*", HEALTH),
        # weights
        ("application/json;q=0.5, application/health+json", HEALTH),
        ("application/json;q=0.5, application/health+json;q=0.501", HEALTH),
        ("application/json;q=0.502, application/health+json;q=0.501", JSON),
        ("application/json ; Q=0.1 , application/health+json\t;\tq=0.2", HEALTH),
        ("application/health+json;q=0.1, */*", JSON),
        ("application/json;q=0, */*", HEALTH),
        ("application/json;q=0.0, application/*;q=0.001", HEALTH),
        ("application/health+json;q=1.000, application/json;q=0.999", HEALTH),
        ("application/health+json;v=1;q=0.9, application/json;q=0.1", HEALTH),
        # nobody may have nothing
        ("application/json;q=0, application/health+json;q=0", JSON),
        ("*/*;q=0", JSON),
        # malformed, and so not said
        ("application/health+json;q=", JSON),
        ("application/health+json;q=high", JSON),
        ("application/health+json;q=1.1", JSON),
        ("application/health+json;q=-1", JSON),
        ("application/health+json;q=0.1234", JSON),
        ("application/health+json;q=nan", JSON),
        ("application/health+json;q=1e0", JSON),
        ("application/health", JSON),
        ("*", JSON),
        (";;;,,,q=1;", JSON),
        ("application/health+json" + "," * 5_000, JSON),
    ],
)
def test_the_media_type_that_is_liked_best(accept: str, expected: bytes) -> None:
    scope: dict[str, object] = {"headers": [(b"accept", accept.encode())]}
    assert accepted(scope, OFFERED) == expected


def test_several_fields_are_one_list() -> None:
    headers = [(b"accept", b"text/html"), (b"x", b"y"), (b"Accept", HEALTH)]
    assert accepted({"headers": headers}, OFFERED) == HEALTH
    assert accepted({}, OFFERED) == JSON


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_whatever_is_accepted_one_of_them_is_given(values: list[bytes]) -> None:
    headers = [(b"accept", value) for value in values]
    assert accepted({"headers": headers}, OFFERED) in OFFERED
    assert accepted({"headers": headers}, (JSON,)) == JSON


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", []),
        (b"a=b", []),
        (b"tags=a", []),
        (b"xtag=a", []),
        (b"tag=a", ["a"]),
        (b"tag=a&tag=b&tag=a&other=c", ["a", "b"]),
        (b"tag=a%2Fb+c", ["a/b c"]),
        (b"tag=%C3%BC", ["\u00fc"]),
        (b"tag=", [""]),
        (b"tag=a,b", ["a,b"]),
        (b"tag=%ff%", ["\ufffd%"]),
        (b"t%61g=a&tag&Tag=c&tag=b", ["b"]),
        ("tag=\u00fc".encode(), ["\u00fc"]),
        (b"x&" * 5_000 + b"tag=a", ["a"]),
        (b"&".join([b"tag=a"] * 64), ["a"]),
    ],
)
def test_the_tags_of_a_query(query: bytes, expected: list[str]) -> None:
    assert tags_asked_for({"query_string": query}) == frozenset(expected)


def test_more_tags_than_anybody_means() -> None:
    assert tags_asked_for({"query_string": b"&".join([b"tag=a"] * 65)}) is None


@given(st.binary(max_size=200))
def test_no_query_is_an_error(query: bytes) -> None:
    tags_asked_for({"query_string": query})
    tags_asked_for({"query_string": b"tag=" + query})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([b"Bearer abc"], b"abc"),
        ([b"bearer   a-b.c_d~e+f/g=="], b"a-b.c_d~e+f/g=="),
        ([b"BEARER abc"], b"abc"),
        ([b"Bearer"], None),
        ([b"Bearer "], None),
        ([b"Bearer a b"], None),
        ([b"Bearer abc, Bearer abc"], None),
        ([b"Basic YTpi"], None),
        ([b"abc"], None),
        ([b"Bearer \xff"], None),
        ([b"Bearer abc", b"Bearer abc"], None),
    ],
)
def test_the_token_of_a_request(values: list[bytes], expected: bytes | None) -> None:
    headers = [(b"authorization", value) for value in values]
    assert bearer_token({"headers": headers}) == expected
