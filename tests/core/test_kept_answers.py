"""Prepared answers never cross: strangers and the authorised, media types, tags, draining."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web import responder
from cqrs_ddd_health.web.asgi import HealthApp, Scope, health_app
from tests.core.actors import Told
from tests.core.asgi_client import Response, request
from tests.examples import examples

TOKEN = "0123456789abcdef"
WORDS = "only for the authorised"
TAGS = ("db", "a/b & c", "\u00fc?")


def registry_of(max_age_seconds: float = 60.0, *, max_workers: int = 10) -> HealthRegistry:
    """Return a registry with a check of each tag, whose failures have words."""
    given_settings = HealthSettings.model_validate(
        {
            "detail": "authorized",
            "bearer_token": TOKEN,
            "http_max_age_seconds": max_age_seconds,
            "max_workers": max_workers,
        }
    )
    registry = HealthRegistry(settings=given_settings)
    for tag in TAGS:
        registry.register(f"of {tag}", Told(OSError(WORDS)), tags=[tag], critical=tag == "db")
    registry.register("untagged", Told())
    registry.heartbeat("worker", instance="a host")
    return registry


class Ask(NamedTuple):
    """One request, and what of its answer follows from it alone."""

    path: str
    is_let_in: bool
    wants_health_json: bool
    tags: tuple[str, ...]

    async def of(self, app: HealthApp) -> None:
        """Ask, and see that the answer is the one to this question."""
        headers = {"authorization": f"Bearer {TOKEN}"} if self.is_let_in else {}
        if self.wants_health_json:
            headers["accept"] = "application/health+json"
        query = "&".join(f"tag={_quoted(tag)}" for tag in self.tags)
        self.judge(await request(app, f"/health{self.path}", query=query, headers=headers))

    def judge(self, answer: Response) -> None:
        """Assert that nothing of another asker's answer is in this one."""
        assert (WORDS in answer.text) == self.is_let_in, self
        kind = answer.headers["content-type"]
        if self.path == "/page":
            assert kind == "text/html; charset=utf-8"
        else:
            is_health = self.wants_health_json and self.path == "/report"
            assert kind == ("application/health+json" if is_health else "application/json")
        if not self.path.startswith("/report/"):
            shown = {tag for tag in TAGS if f"of {tag}" in _plain(answer.text)}
            assert shown == (set(self.tags) or set(TAGS)), self
            assert ("untagged" in answer.text) == (not self.tags)
        if self.path == "/report":
            assert ("a host" in answer.text) == self.is_let_in


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _plain(text: str) -> str:
    return text.replace("&amp;", "&").replace("\\u00fc", "\u00fc")


asks = st.builds(
    Ask,
    path=st.sampled_from(["/report", "/report", "/page", "/report/of db"]),
    is_let_in=st.booleans(),
    wants_health_json=st.booleans(),
    tags=st.lists(st.sampled_from(TAGS), max_size=4).map(tuple),
)
EVERY = [
    Ask(path, is_let_in, wants, tags)
    for path in ("/report", "/page", "/report/of db")
    for is_let_in in (False, True)
    for wants in (False, True)
    for tags in ((), ("db",), ("db", "a/b & c"))
]


@settings(max_examples=examples(40))
@given(st.lists(asks, min_size=2, max_size=12), st.sampled_from([0.0, 60.0]))
def test_answers_to_different_questions_never_cross(asked: list[Ask], max_age: float) -> None:
    async def ask_one_after_the_other() -> None:
        app = health_app(registry_of(max_age))
        for ask in asked:
            await ask.of(app)

    asyncio.run(ask_one_after_the_other())


@pytest.mark.parametrize("max_age", [0.0, 60.0])
async def test_nor_do_they_when_all_are_asked_at_once(max_age: float) -> None:
    app = health_app(registry_of(max_age))
    await asyncio.gather(*(ask.of(app) for ask in EVERY * 3))
    await asyncio.gather(*(ask.of(app) for ask in reversed(EVERY)))


async def test_who_is_let_in_late_has_no_part_in_the_strangers_answer() -> None:
    answers = itertools.cycle([True, False])

    async def sometimes(scope: Scope) -> bool:
        says = next(answers)
        await asyncio.sleep(0.01 if says else 0)
        return says

    app = health_app(registry_of(), authorizer=sometimes)
    gathered = await asyncio.gather(*(request(app, "/health/report") for _ in range(20)))
    assert [WORDS in answer.text for answer in gathered] == [True, False] * 10


async def test_no_query_asks_a_check_anew() -> None:
    registry = registry_of()
    check = registry.register("counted", Told(), tags=["counted"])
    app = health_app(registry)
    for query in ("", "tag=db", "tag=counted", "tag=x", "x=y", "tag=counted&tag=db", "&&"):
        for path in ("/report", "/page", "/report/counted", "/ready"):
            await request(app, f"/health{path}", query=query)
    assert check.calls == 1


@pytest.mark.parametrize("path", ["", "/live", "/ready", "/startup", "/report/untagged"])
async def test_where_tags_say_nothing_the_query_is_ignored(path: str) -> None:
    app = health_app(registry_of())
    plain = await request(app, f"/health{path}")
    assert (await request(app, f"/health{path}", query="tag=nobody")).body == plain.body


@pytest.mark.parametrize("query", ["tag=nobody", "tag=db&tag=nobody", "tag=", "tag=DB", "tag=db "])
@pytest.mark.parametrize("path", ["/report", "/page"])
async def test_a_tag_that_no_check_has_is_404_without_an_echo(path: str, query: str) -> None:
    answer = await request(health_app(registry_of()), f"/health{path}", query=query)
    assert (answer.code, answer.json) == (404, {"error": "not found"})


async def test_what_is_shown_by_tags_is_what_the_registry_says_by_tags() -> None:
    registry = registry_of(0)
    answer = await request(health_app(registry), "/health/report", query="tag=a/b%20%26%20c")
    report = await registry.report(tags=["a/b & c"])
    assert [row.name for row in report.components] == ["of a/b & c"]
    assert answer.json["status"] == report.status == "degraded"
    assert answer.code == 200  # what is critical has another tag
    assert (await request(health_app(registry), "/health/report")).code == 503


async def test_what_is_kept_is_bounded_however_tags_are_combined() -> None:
    registry = registry_of()
    for number in range(8):
        registry.register(f"check {number}", Told(), tags=[f"t{number}"])
    app = health_app(registry)
    for chosen in itertools.product((False, True), repeat=8):
        query = "&".join(f"tag=t{number}" for number in range(8) if chosen[number])
        answer = await request(app, "/health/report", query=query)
        assert answer.text.count('"check ') == (sum(chosen) or 8)
    await request(app, "/health/report", query="tag=t0")
    assert len(app._responder._selections._kept) == responder.MAX_SELECTIONS
    assert len(app._responder._answers._kept) == 1


async def test_draining_is_seen_in_kept_answers_too() -> None:
    registry = registry_of()
    app = health_app(registry)
    assert (await request(app, "/health/report")).json["draining"] is False
    registry.drain()
    assert (await request(app, "/health/report")).json["draining"] is True
    health = await request(app, "/health/report", headers={"accept": "application/health+json"})
    assert health.json["notes"] == ["it is leaving, and takes no more traffic"]


async def test_what_is_kept_grows_old_by_the_wall_clock_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The monotonic clock stands still while some machines sleep."""
    clock = FakeClock()
    registry = HealthRegistry(settings=HealthSettings(http_max_age_seconds=60), clock=clock)
    check = registry.register("check", Told())
    app = health_app(registry)
    assert (await request(app, "/health/ready")).code == 200
    check.outcome = False
    assert (await request(app, "/health/ready")).code == 200
    woke_up_at = time.time() + 3_600
    clock.jump(3_600)
    monkeypatch.setattr("cqrs_ddd_health.web.cache.time.time", lambda: woke_up_at)
    assert (await request(app, "/health/ready")).code == 503
