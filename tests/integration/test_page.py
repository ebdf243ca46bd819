"""The page as people see it: in a real browser, over a real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.browser import chromium
from tests.service import Service, bare_environment


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Service]:
    environment = bare_environment(tmp_path)
    with Service.of_cli("--demo", environment=environment, directory=tmp_path) as service:
        yield service


async def test_the_demo_is_shown(demo: Service) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(demo.page)
        assert "healthy" in await page.inner_text("h1")
