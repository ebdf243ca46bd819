"""Every Python block of the README and of docs/ runs.

The blocks of one level-2 section run in order and share one namespace, as a reader would type
them, with a clean default registry; nothing is carried over into the next section. A block whose
info string is other than `python` (`console`, `python title="..."`) is not run.

Each section is given `health`, the default registry, and the clients of an application:
`session_factory` (SQLAlchemy, on a SQLite file), `redis_client` (redis-py, on a Redis),
`broker_client` and `es_client`. It imports or defines everything else itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path

import pytest

from cqrs_ddd_health.domain.transitions import LOGGER
from cqrs_ddd_health.testing import clean_registry
from tests.documents import Block, Namespace, python_blocks
from tests.given import Broker, Elasticsearch, database, redis_client
from tests.servers import OwnRedis

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
BLOCKS = [block for path in DOCUMENTS for block in python_blocks(path)]
SECTIONS = {
    f"{path.name}: {section}": list(blocks)
    for (path, section), blocks in groupby(BLOCKS, lambda block: (block.path, block.section))
}
SUBJECTS = {
    "Quick start",
    "Write a check",
    "Built-in checks",
    "Beat from workers",
    "Answer probes over HTTP",
    "Read the page",
    "Refresh in the background",
    "Leave without losing a request",
    "Workers without a web server",
    "What gates ready",
    "Ask from sync code",
    "Be told of changes",
    "Watch it with Prometheus",
    "Test with it",
}


@pytest.fixture
async def namespace(
    tmp_path: Path, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Namespace]:
    monkeypatch.chdir(tmp_path)  # where a block may leave a file
    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [])  # to which it may add one
    async with (
        database(tmp_path / "app.sqlite3") as session_factory,
        redis_client(own_redis.port) as client,
    ):
        with clean_registry() as health:
            yield {
                "health": health,
                "session_factory": session_factory,
                "redis_client": client,
                "broker_client": Broker(),
                "es_client": Elasticsearch(),
                "has_toolkit": False,
            }


@pytest.mark.parametrize("blocks", SECTIONS.values(), ids=SECTIONS.keys())
async def test_the_blocks_of_a_section_run(namespace: Namespace, blocks: list[Block]) -> None:
    for block in blocks:
        await block.run(namespace)
    # A thread that a block leaves running may ask this loop; what it raises is a warning here.
    threads = [value for value in namespace.values() if isinstance(value, threading.Thread)]
    async with asyncio.timeout(20):
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.01)


def test_every_promised_subject_has_a_block() -> None:
    assert SECTIONS.keys() >= {f"README.md: {subject}" for subject in SUBJECTS}
