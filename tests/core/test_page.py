"""The page: what it says, in what order, to whom, and that nothing else gets into it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from cqrs_ddd_health import (
    CheckOptions,
    HealthRegistry,
    HealthReport,
    HealthSettings,
    MemoryHeartbeatStore,
)
from cqrs_ddd_health.config.settings import Detail
from cqrs_ddd_health.engine.history import MAX_RESULTS
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import health_app
from cqrs_ddd_health.web.exposure import expose
from cqrs_ddd_health.web.page.document import MAX_BROKEN, MAX_NEWS, page
from tests.core.actors import Told
from tests.core.asgi_client import request
from tests.core.test_shared_heartbeats import publisher_of

EVIL = "<script>alert('1')</script>\"&"


class Shown(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and the text of `main`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._within_main = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within_main |= tag == "main"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._within_main &= tag != "main"

    def handle_data(self, data: str) -> None:
        if self._within_main:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def registry_of(clock: FakeClock | None = None, detail: Detail = "safe") -> HealthRegistry:
    settings = HealthSettings(
        service_name="orders", service_version="2.4.1", detail=detail, http_max_age_seconds=0
    )
    return HealthRegistry(60, settings=settings, clock=clock)


async def html_of(registry: HealthRegistry) -> str:
    return rendered(registry, await registry.report())


def rendered(registry: HealthRegistry, report: HealthReport) -> str:
    detail = registry.settings.detail
    return page(expose(report, detail), registry, detail).body.decode()


async def shown(registry: HealthRegistry) -> Shown:
    return Shown(await html_of(registry))


# --- what it says


async def test_a_calm_page_says_that_all_is_up(clock: FakeClock) -> None:
    registry = registry_of(clock)
    registry.register("database", Told())
    registry.heartbeat("outbox")
    text = (await shown(registry)).text
    assert text.startswith("orders is healthy As of 2026-01-01 00:00:00 UTC · 2 of 2 up")
    assert "What is not up" not in text
    assert "database since 00:00:00 UTC up" in text
    assert "outbox since 00:00:00 UTC up < 0.1 ms of 1 min" in text


async def test_what_is_broken_comes_first_the_worst_above(clock: FakeClock) -> None:
    registry = registry_of(clock)
    for name, outcome, critical in (
        ("fine", True, True),
        ("optional", False, False),
        ("wobbles", False, True),
        ("database", OSError(), True),
    ):
        options = CheckOptions(failure_threshold=2 if name == "wobbles" else 1)
        registry.register(name, Told(outcome), critical=critical, options=options)
    await registry.report()
    clock.advance(125)
    report = await registry.report(max_age_seconds=3_600)
    text = Shown(rendered(registry, report)).text
    first = text.partition("What is not up, and since when")[2].partition("Components")[0]
    assert first.strip() == (
        "down database since 00:00:00 UTC , for 2 min exception OSError "
        "down optional not critical, since 00:00:00 UTC , for 2 min falsy: the check said no "
        "degraded wobbles since 00:00:00 UTC , for 2 min falsy: the check said no"
    )
    names = ["database", "optional", "wobbles", "fine"]
    places = [text.rindex(f"{name} ", 0, text.index("Workers")) for name in names]
    assert places == sorted(places)


async def test_more_than_can_be_read_at_a_glance_is_counted() -> None:
    registry = registry_of()
    for number in range(MAX_BROKEN + 3):
        registry.register(f"check {number}", Told(False))
    assert "and 3 more, below." in (await shown(registry)).text


async def test_a_stale_worker_is_so_since_its_beat_was_too_old(clock: FakeClock) -> None:
    registry = registry_of(clock)
    registry.heartbeat("outbox")
    await registry.report()
    clock.advance(3_600)
    text = (await shown(registry)).text
    assert "down outbox since 00:01:00 UTC , for 59 min stale: the last beat is too old" in text
    assert "60 min of 1 min" in text


async def test_each_instance_has_its_bar(clock: FakeClock) -> None:
    registry = registry_of(clock)
    registry.expect("outbox", min_instances=2)
    registry.heartbeat("outbox", instance="a")
    clock.advance(90)
    registry.heartbeat("outbox", instance="b")
    clock.advance(30)
    found = await shown(registry)
    assert "1 of 2 fresh instance 1 down 2 min of 1 min instance 2 up 30 s of 1 min" in found.text
    bars = [path["d"] for path in found.of("path") if path.get("class") == "f"]
    assert bars == ["M0 3h96", "M0 3h48"]


async def test_the_past_of_a_check_is_a_picture_with_words(clock: FakeClock) -> None:
    registry = registry_of(clock)
    check = registry.register("database", Told(), options=CheckOptions(failure_threshold=2))
    for outcome in (True, False, False, True):
        check.outcome = outcome
        await registry.report()
    (picture,) = (svg for svg in (await shown(registry)).of("svg") if svg.get("role") == "img")
    assert str(picture["aria-label"]).startswith("last 5: 3 up, 1 degraded, 1 down; up to ")


async def test_the_last_changes_are_there_the_latest_first(clock: FakeClock) -> None:
    registry = registry_of(clock)
    check = registry.register("database", Told())
    gone = registry.register("gone", Told())
    assert gone.outcome is True
    await registry.report()
    clock.advance(86_400)
    check.outcome = OSError("secret words")
    await registry.report()
    registry.unregister("gone")
    text = (await shown(registry)).text.partition("Last changes")[2]
    assert text.strip() == (
        "Time (UTC) Component Change 00:00:00 database up → down exception OSError "
        "2026-01-01 00:00:00 database first seen up"
    )


async def test_only_the_last_changes_are_shown(clock: FakeClock) -> None:
    registry = registry_of(clock)
    check = registry.register("database", Told())
    for number in range(2 * MAX_NEWS):
        check.outcome = number % 2 == 0
        await registry.report()
    assert (await html_of(registry)).count("→") == MAX_NEWS


async def test_that_it_is_leaving_is_said() -> None:
    registry = registry_of()
    registry.register("database", Told())
    registry.drain()
    assert "draining" in (await shown(registry)).text


async def test_the_page_of_nothing_says_so_and_what_is_left_out_is_counted() -> None:
    registry = HealthRegistry(settings=HealthSettings(max_heartbeats=1, http_max_age_seconds=0))
    text = (await shown(registry)).text
    assert "This service is healthy" in text
    assert "nothing is registered" in text
    assert text.count(" none") == 3
    for number in range(5):
        registry.heartbeat("worker", instance=f"{number}")
    registry.heartbeat("mine")
    assert "3 more instances are not shown." in (await shown(registry)).text


async def test_rows_that_no_check_stands_for_are_shown_too(clock: FakeClock) -> None:
    settings = HealthSettings(required=("search",), http_max_age_seconds=0)
    registry = HealthRegistry(
        60, settings=settings, clock=clock, heartbeat_store=MemoryHeartbeatStore()
    )
    registry.register("database", Told())
    registry.heartbeat("eager", timeout_seconds=0)
    registry.expect("never")
    text = (await shown(registry)).text
    assert "search" in text
    assert "heartbeat" in text
    assert "never seen" in text
    report = await registry.report(tags=("none",))
    publisher_of(registry).leave()  # with its thread
    registry.unregister("database")
    assert "eager down" in Shown(rendered(registry, report)).text  # its instances alone
    assert "database" not in Shown(rendered(registry, report)).text


async def test_a_check_that_was_unregistered_meanwhile_has_no_past() -> None:
    registry = registry_of()
    registry.register("database", Told())
    report = await registry.report()
    registry.unregister("database")
    found = Shown(rendered(registry, report))
    assert "database" in found.text
    assert not [svg for svg in found.of("svg") if svg.get("role") == "img"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "< 0.1 ms"),
        (0.00123, "1.2 ms"),
        (0.25, "250 ms"),
        (1.026, "1.03 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (7_000, "117 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
        (1e9, "11574 d"),
    ],
)
async def test_ages_are_in_the_unit_that_is_read_best(
    clock: FakeClock, seconds: float, words: str
) -> None:
    registry = HealthRegistry(1e10, settings=HealthSettings(), clock=clock)
    registry.heartbeat("outbox")
    clock.advance(seconds)
    assert f"up {words} of " in (await shown(registry)).text


# --- to whom


async def test_strangers_see_no_words_and_no_hosts(clock: FakeClock) -> None:
    texts: dict[Detail, str] = {}
    for detail in ("safe", "full"):
        registry = registry_of(clock, detail)
        check = registry.register("database", Told())
        await registry.report()
        check.outcome = OSError("private words")
        registry.heartbeat("outbox", instance="private-host", phase="private-phase", progress=4_711)
        texts[detail] = await html_of(registry)
    for private in ("private words", "private-host", "private-phase", "at 4711", "version"):
        assert private not in texts["safe"].partition("<main")[2]
        assert private in texts["full"].partition("<main")[2]
    assert texts["full"].count("private words") == 3  # at the top, in its row, as a change


# --- what else could get into it


async def test_markup_in_names_is_text() -> None:
    settings = HealthSettings(service_name=EVIL, service_version=EVIL, instance=EVIL, detail="full")
    registry = HealthRegistry(settings=settings)
    registry.register(EVIL, Told(ValueError(EVIL)))
    registry.heartbeat(EVIL, instance=EVIL, phase=EVIL)
    registry.heartbeat(EVIL, instance="other")
    registry.expect("<b>never</b>")
    html = await html_of(registry)
    found = Shown(html)
    assert len(found.of("script")) == 1
    assert "alert" not in html.partition("<script>")[2]
    assert EVIL in found.text
    assert "<b>never</b>" in found.text
    assert not [name for _, attributes in found.elements for name in attributes if name[:2] == "on"]


async def test_dollars_in_names_are_no_part_of_the_template() -> None:
    registry = registry_of()
    registry.register("$title ${main}", Told())
    assert "$title ${main}" in (await shown(registry)).text


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    registry = registry_of()
    registry.register("database", Told())
    found = await shown(registry)
    references = [
        value
        for _, attributes in found.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "xlink:href", "style"}
    ]
    assert [str(value).partition(",")[0] for value in references] == ["data:image/svg+xml"]
    assert "url(" not in await html_of(registry)
    assert "@import" not in await html_of(registry)


async def test_the_policy_lets_through_what_is_there_and_nothing_else() -> None:
    registry = registry_of()
    answer = await request(health_app(registry), "/health/page")
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    for element in ("style", "script"):
        (inside,) = re.findall(f"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "style-src": policy["style-src"],
        "script-src": policy["script-src"],
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"


# --- how large it is


@pytest.mark.parametrize("failing", [0, 5, 1])
async def test_fifty_components_with_all_their_past_are_less_than_60_kib(failing: int) -> None:
    """None of their runs fails, each fifth, or all; and latencies vary, as those of a network."""
    registry = registry_of()
    for number in range(50):
        is_down = failing > 0 and number % failing == 0
        registry.register(f"component-{number}", Told(OSError() if is_down else True))
    for place, slot in enumerate(registry._engine.catalog.slots.values()):
        for turn in range(MAX_RESULTS):
            is_down = failing > 0 and (turn * 7 + place) % failing == 0
            slot.results.add(turn, "down" if is_down else "up", 0.01 + (turn * 37 % 17) / 100)
    for number in range(20):
        registry.heartbeat(f"worker-{number}")
    html = await html_of(registry)
    assert html.count("role=img") == 50
    assert len(html.encode()) < 60 * 1024, len(html.encode())
