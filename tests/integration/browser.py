"""A real browser: Debian's chromium, driven by Playwright, with a new profile each time."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypedDict, cast

from playwright.async_api import Browser, Page, Route, async_playwright

__all__ = [
    "Mode",
    "Tab",
    "accessibility_problems",
    "chromium",
    "faint_texts",
    "opened",
    "too_wide",
]

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
_NEWS = re.compile('<meta http-equiv="refresh" content="5">|<script>.*</script>', re.DOTALL)
FLAGS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """Run the one that `make integration` names."""
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(frozen=True)
class Mode:
    """How somebody looks at a page."""

    name: str
    width: int = 1280
    scheme: Literal["light", "dark"] = "light"
    forced_colours: bool = False
    scripts: bool = True


@dataclass
class Tab:
    """One page in the browser, and all that it asked for and complained of."""

    page: Page
    mode: Mode
    requests: list[str] = field(default_factory=list[str])
    complaints: list[str] = field(default_factory=list[str])

    async def shoot(self, name: str) -> None:
        """Leave a picture of the whole page in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    mode: Mode = Mode("desktop"),
    *,
    stopped_clock: bool = False,
    still: bool = False,
) -> AsyncGenerator[Tab]:
    """Open `url`.

    With a stopped clock timers run only when told to. `still` takes out what has the page change:
    its script, and that the browser loads it again where there are none.
    """
    context = await browser.new_context(
        viewport={"width": mode.width, "height": 800},
        color_scheme=mode.scheme,
        forced_colors="active" if mode.forced_colours else "none",
        java_script_enabled=mode.scripts,
    )
    try:
        tab = Tab(await context.new_page(), mode)
        context.on("request", lambda request: tab.requests.append(request.url))
        tab.page.on("console", lambda message: tab.complaints.append(message.text))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on("dialog", lambda dialog: tab.complaints.append(dialog.message))
        if stopped_clock:
            await tab.page.clock.install()
        if still:
            await tab.page.route(url, _without_news)
        await tab.page.goto(url)
        yield tab
    finally:
        await context.close()


async def _without_news(route: Route) -> None:
    answer = await route.fetch()
    text, count = _NEWS.subn("", await answer.text())
    assert count == 2
    await route.fulfill(response=answer, body=text)


class _Violation(TypedDict):
    id: str
    nodes: list[dict[str, object]]


async def accessibility_problems(tab: Tab) -> list[str]:
    """Return what axe-core finds, and what of contrast it cannot tell."""
    browser = tab.page.context.browser
    if not tab.mode.scripts and browser is not None:  # it needs them, the page does not
        mode = replace(tab.mode, scripts=True)
        async with opened(browser, tab.page.url, mode, still=True) as same:
            return await accessibility_problems(same)
    await tab.page.evaluate(AXE.read_text("utf-8"))
    found = await tab.page.evaluate("() => axe.run()")
    unsure = [one for one in found["incomplete"] if one["id"] == "color-contrast"]
    violations = cast("list[_Violation]", found["violations"] + unsure)
    assert len(found["passes"]) > 10, "axe-core looked at nothing"
    return [f"{one['id']}: {node['html']}" for one in violations for node in one["nodes"]]


_FAINT = """(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => {
    const [r, g, b] = [...rgba(colour)].slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] > 0) return colour;
    }
    return "Canvas";
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*:not(script)")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3);
    const text = own.map((node) => node.data).join("").trim();
    if (!text || !element.checkVisibility()) continue;
    const both = [getComputedStyle(element).color, behind(element)];
    const [one, other] = both.map(light).sort((a, b) => a - b);
    const ratio = (other + 0.05) / (one + 0.05);
    if (ratio < least) faint.push(`${text}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


async def faint_texts(tab: Tab, least: float = 4.5) -> list[str]:
    """Return the texts whose contrast, by WCAG's formula, is less than `least`."""
    return cast("list[str]", await tab.page.evaluate(_FAINT, least))


_WIDE = """() => [...document.querySelectorAll("body, body *")]
  .filter((element) => element.checkVisibility() && !element.closest(".unseen"))
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 80))
  .concat(document.documentElement.scrollWidth > innerWidth ? ["the page scrolls"] : [])"""


async def too_wide(tab: Tab) -> list[str]:
    """Return what reaches beyond the window at the right."""
    return cast("list[str]", await tab.page.evaluate(_WIDE))
