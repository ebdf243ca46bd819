"""The page as people see it: in a real browser, over a real service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from cqrs_ddd_health import HealthRegistry, HealthServer
from tests.integration.browser import (
    Mode,
    accessibility_problems,
    chromium,
    faint_texts,
    opened,
    too_wide,
)
from tests.integration.stage import CHECKS, EVIL
from tests.service import Service, bare_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_MS = 20_000.0
"""How long something may take that happens within a refresh, which is 5 s."""

ROOT = Path(__file__).parents[2]
MODES = (
    Mode("desktop"),
    Mode("desktop-dark", scheme="dark"),
    Mode("desktop-forced-colours", forced_colours=True),
    Mode("desktop-without-scripts", scripts=False),
    Mode("phone", width=360),
    Mode("phone-dark", width=360, scheme="dark"),
    Mode("phone-forced-colours", width=360, forced_colours=True),
    Mode("phone-without-scripts", width=360, scripts=False),
    Mode("narrow", width=320),
    Mode("tablet", width=800),
)

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    async with chromium() as running:
        yield running


class Stage:
    """The service of `tests.integration.stage`, and what is said to it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self._environment = bare_environment(
            directory, CQRS_HEALTH_SERVICE_NAME="orders", **settings
        )
        self.service = self._started(0)
        self.url = self.service.page

    def _started(self, port: int) -> Service:
        command = ["-m", "tests.integration.stage", str(self.directory), str(port)]
        return Service(command, self._environment, ROOT)

    def say(self, **words: str) -> None:
        """Have those checks do so from now on."""
        for name, word in words.items():
            (self.directory / name).write_text(word)

    def end(self) -> None:
        with self.service:
            pass

    def start_again(self) -> None:
        self.service = self._started(self.service.port)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.end()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One that is well, for all who change nothing."""
    stage = Stage(tmp_path_factory.mktemp("healthy"))
    yield stage
    stage.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broken(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Stage]:
    """One with a past, and with everything that can be wrong, for all who change nothing."""
    stage = Stage(tmp_path_factory.mktemp("broken"))
    try:
        async with opened(browser, stage.url) as tab:
            broken, changes = tab.page.locator("#broken"), tab.page.locator("#news tbody tr")
            await expect(changes).to_have_count(len(CHECKS) + 2)
            stage.say(database="raises", redis="hangs", search="degraded", beats="stopped")
            for words in ("ConnectionRefusedError", "timeout", "reported", "beat is too old"):
                await expect(broken).to_contain_text(words)
        yield stage
    finally:
        stage.end()


# --- in each mode


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_what_is_broken_can_be_read(browser: Browser, broken: Stage, mode: Mode) -> None:
    async with opened(browser, broken.url, mode, still=not mode.scripts) as tab:
        await tab.shoot(f"broken-{mode.name}")
        await expect(tab.page.locator("h1")).to_have_text("orders is unhealthy")
        first = tab.page.locator("section").nth(1)
        await expect(first.locator("h2")).to_have_text("What is not up, and since when")
        said = await first.inner_text()
        for words in ("database", "ConnectionRefusedError", "redis", "timeout", "outbox", "search"):
            assert words in said
        assert "secret" not in await tab.page.content()
        assert await too_wide(tab) == []
        assert await faint_texts(tab) == []
        assert await accessibility_problems(tab) == []
        assert tab.complaints == []
        assert set(tab.requests) == {broken.url}


@pytest.mark.parametrize("mode", MODES[:5], ids=lambda mode: mode.name)
async def test_what_is_well_can_be_read(browser: Browser, healthy: Stage, mode: Mode) -> None:
    async with opened(browser, healthy.url, mode, still=not mode.scripts) as tab:
        await expect(tab.page.locator("h1")).to_have_text("orders is healthy")
        await tab.shoot(f"healthy-{mode.name}")
        names = await tab.page.locator("#checks tbody th > bdi").all_inner_texts()
        assert names == list(CHECKS)
        assert await too_wide(tab) == []
        assert await faint_texts(tab) == []
        assert await accessibility_problems(tab) == []
        assert tab.complaints == []
        assert set(tab.requests) == {healthy.url}


@pytest.mark.parametrize("mode", [MODES[0], MODES[2]], ids=lambda mode: mode.name)
async def test_a_state_is_a_word_and_a_shape(browser: Browser, broken: Stage, mode: Mode) -> None:
    async with opened(browser, broken.url, mode) as tab:
        shapes = await tab.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll(".s")].map((word) => [
              word.innerText.trim(),
              getComputedStyle(word, "::before").clipPath,
            ]))"""
        )
        assert set(shapes) == {"up", "degraded", "down"}
        assert len(set(shapes.values())) == 3
        hidden = await tab.page.evaluate(
            """() => [...document.querySelectorAll(".s")].map((word) => {
              const behind = getComputedStyle(word.closest("section")).backgroundColor;
              return getComputedStyle(word, "::before").backgroundColor === behind;
            })"""
        )
        assert not any(hidden)  # each stands out from what is behind it


async def test_a_bar_is_as_long_as_its_age_without_colours_too(
    browser: Browser, broken: Stage
) -> None:
    for mode in (MODES[0], MODES[2]):
        async with opened(browser, broken.url, mode) as tab:
            differs = """() => {
              const [track, bar] = ["t", "f"].map((name) =>
                getComputedStyle(document.querySelector(`#workers .up .${name}`)));
              return [track.stroke !== bar.stroke, track.strokeWidth !== bar.strokeWidth];
            }"""
            assert any(await tab.page.evaluate(differs))


async def test_it_can_be_printed(browser: Browser, broken: Stage) -> None:
    async with opened(browser, broken.url, Mode("print", width=700)) as tab:
        await tab.page.emulate_media(media="print")
        await tab.shoot("broken-print")
        await expect(tab.page.locator("header")).to_be_hidden()
        await expect(tab.page.locator("h1")).to_be_visible()
        assert await too_wide(tab) == []


async def test_who_wants_no_motion_gets_none(browser: Browser, healthy: Stage) -> None:
    async with opened(browser, healthy.url) as tab:
        moving = """() => [...document.querySelectorAll("*")].filter(
          (element) => getComputedStyle(element).transitionDuration !== "0s").length"""
        assert await tab.page.evaluate(moving) > 0
        await tab.page.emulate_media(reduced_motion="reduce")
        assert await tab.page.evaluate(moving) == 0


async def test_names_are_shown_as_they_are(browser: Browser, healthy: Stage) -> None:
    async with opened(browser, healthy.url) as tab:
        cell = tab.page.locator("#checks tbody th > bdi").nth(CHECKS.index(EVIL))
        assert await cell.evaluate("(cell) => cell.textContent") == EVIL
        assert await cell.evaluate("(cell) => cell.children.length") == 0


async def test_the_tables_are_tables_to_a_screen_reader(browser: Browser, broken: Stage) -> None:
    for mode in (MODES[0], MODES[4]):
        async with opened(browser, broken.url, mode) as tab:
            for caption, heading in (("Components", "database"), ("Workers", "outbox")):
                table = tab.page.get_by_role("table", name=caption)
                await expect(table.get_by_role("columnheader").first).to_be_attached()
                row = table.get_by_role("row").filter(has_text=heading)
                await expect(row.get_by_role("rowheader").first).to_contain_text(heading)
                await expect(row.get_by_role("cell").first).to_have_text("down")
            picture = tab.page.get_by_role("img", name="last").first
            await expect(picture).to_be_visible()


# --- as time goes by


async def test_news_come_without_a_flicker(browser: Browser, stage: Stage) -> None:
    async with opened(browser, stage.url, Mode("phone", width=360)) as tab:
        page = tab.page
        await expect(page.locator("#news tbody tr")).to_have_count(len(CHECKS) + 2)
        icon = await page.get_attribute("#icon", "href")
        await page.evaluate(
            """() => {
              const row = document.querySelector("#workers tbody tr bdi");
              document.getElementById("pause").focus({ preventScroll: true });
              getSelection().selectAllChildren(row);
              row.scrollIntoView({ block: "center" });
              window.kept = [...document.querySelectorAll("section, table, tbody tr, h1, .s")];
              window.top0 = row.getBoundingClientRect().top;
              window.scrolled = scrollY;
            }"""
        )
        stage.say(database="raises")
        await expect(page.locator("h1")).to_have_text("orders is unhealthy", timeout=PATIENCE_MS)
        await expect(page.locator("#said")).to_have_text("orders is unhealthy")
        await expect(page).to_have_title("unhealthy: orders")
        assert await page.get_attribute("#icon", "href") != icon
        after = await page.evaluate(
            """() => ({
              connected: window.kept.every((node) => node.isConnected),
              selected: getSelection().toString(),
              focused: document.activeElement.id,
              moved: Math.abs(
                document.querySelector("#workers tbody tr bdi").getBoundingClientRect().top - top0),
              scrolled: window.scrolled,
            })"""
        )
        assert after["connected"]
        assert after["selected"] in {"outbox", "projections"}
        assert after["focused"] == "pause"
        assert after["scrolled"] > 0
        assert after["moved"] <= 1
        stage.say(database="up")
        await expect(page.locator("h1")).to_have_text("orders is healthy")
        await expect(page.locator("#said")).to_have_text("orders is healthy")
        await expect(page.locator("#news tbody tr").first).to_contain_text("down → up")
        assert tab.complaints == []
        assert set(tab.requests) == {stage.url}


async def test_names_with_one_key_keep_a_row_each(browser: Browser) -> None:
    same_key = ("gnyijstj", "etislvlf")  # their CRC-32 is the same
    registry = HealthRegistry()
    for name in (*same_key, "other"):
        registry.expect(name, grace_seconds=0)
    registry.heartbeat(same_key[0])
    async with (
        HealthServer(registry, port=0) as server,
        opened(browser, f"{server.url}/health/page", Mode("phone", width=360)) as tab,
    ):
        rows = tab.page.locator("#workers tbody tr")
        await expect(rows).to_have_count(3)
        registry.heartbeat("other")
        await expect(tab.page.locator("#workers tr.up")).to_have_count(2, timeout=PATIENCE_MS)
        await expect(rows).to_have_count(3)
        await expect(rows.filter(has_text=same_key[1])).to_have_class("down")


async def test_a_worker_that_is_gone_is_seen(browser: Browser, stage: Stage) -> None:
    async with opened(browser, stage.url) as tab:
        row = tab.page.locator("#workers tr", has_text="outbox")
        await expect(row.locator(".s")).to_have_text("up")
        stage.say(beats="stopped")
        await expect(row.locator(".s")).to_have_text("down")
        await expect(tab.page.locator("#broken")).to_contain_text("the last beat is too old")
        stage.say(beats="up")
        await expect(row.locator(".s")).to_have_text("up")
        await expect(tab.page.locator("#broken")).to_have_count(0)


async def test_that_the_service_is_gone_is_said_until_it_is_back(
    browser: Browser, stage: Stage
) -> None:
    async with opened(browser, stage.url) as tab:
        page, banner = tab.page, tab.page.locator("#lost")
        await expect(page.locator("h1")).to_have_text("orders is healthy")
        stage.end()
        await expect(banner).to_contain_text("Not reached since ")
        await expect(page.locator("#said")).to_contain_text("Not reached since ")
        await expect(page).to_have_title("not reached: healthy: orders")
        await expect(page.locator("#checks")).to_contain_text("database")
        colour = "() => getComputedStyle(document.querySelector('h1 strong')).color"
        greyed = await page.evaluate(colour)
        await tab.shoot("not-reached")
        assert await faint_texts(tab) == []
        stage.start_again()
        await expect(banner).to_be_hidden()
        assert await page.evaluate(colour) != greyed  # what is no news does not look like any
        await expect(page.locator("#said")).to_have_text("orders is healthy")
        await expect(page).to_have_title("healthy: orders")
        assert all("Failed to load resource" in words for words in tab.complaints)


@pytest.mark.parametrize(("code", "body"), [(502, "<main id=main>no"), (200, "<h1>Sign in</h1>")])
async def test_an_answer_of_somebody_else_is_none(
    browser: Browser, healthy: Stage, code: int, body: str
) -> None:
    async with opened(browser, healthy.url, stopped_clock=True) as tab:
        await tab.page.route(
            "**/*", lambda route: route.fulfill(status=code, body=body, content_type="text/html")
        )
        await tab.page.clock.fast_forward(6_000)
        await expect(tab.page.locator("#lost")).to_contain_text("Not reached since ")
        await expect(tab.page.locator("h1")).to_have_text("orders is healthy")


async def test_nothing_is_asked_while_nobody_looks(browser: Browser, healthy: Stage) -> None:
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with opened(browser, healthy.url, stopped_clock=True) as tab:
        async with tab.page.expect_response(healthy.url):
            await tab.page.clock.fast_forward(6_000)
        await tab.page.evaluate(hide, True)
        asked = len(tab.requests)
        await tab.page.clock.run_for(60_000)
        assert len(tab.requests) == asked
        async with tab.page.expect_response(healthy.url):
            await tab.page.evaluate(hide, False)


async def test_who_reads_can_have_it_wait(browser: Browser, healthy: Stage) -> None:
    async with opened(browser, healthy.url, stopped_clock=True) as tab:
        page, pause = tab.page, tab.page.get_by_role("button", name="Pause")
        await page.keyboard.press("Tab")
        await expect(pause).to_be_focused()
        assert await pause.evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await expect(pause).to_have_attribute("aria-pressed", "true")
        assert await faint_texts(tab) == []
        asked = len(tab.requests)
        await page.clock.run_for(60_000)
        assert len(tab.requests) == asked
        async with page.expect_response(healthy.url):
            await page.keyboard.press("Enter")
        await expect(pause).to_have_attribute("aria-pressed", "false")


async def test_without_scripts_the_browser_loads_it_again(browser: Browser, stage: Stage) -> None:
    mode = Mode("without-scripts", scripts=False)
    async with opened(browser, stage.url, mode) as tab:
        await expect(tab.page.locator("h1")).to_have_text("orders is healthy")
        await expect(tab.page.locator("#pause")).to_be_hidden()
        stage.say(database="down")
        await expect(tab.page.locator("h1")).to_have_text("orders is unhealthy")
        assert set(tab.requests) == {stage.url}


async def test_the_demo_is_shown_and_refreshed(browser: Browser, tmp_path: Path) -> None:
    environment = bare_environment(tmp_path)
    with Service.of_cli("--demo", environment=environment, directory=tmp_path) as demo:
        async with opened(browser, demo.page) as tab:
            await expect(tab.page.locator("h1")).to_contain_text("healthy")
            async with tab.page.expect_response(demo.page):
                pass
            assert tab.complaints == []
