"""What the documents tell contributors to run and to read is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
TASK = re.compile(r"(?:`|^\$ )make ([a-z-]+)", re.MULTILINE)


def targets() -> set[str]:
    """Return the tasks that `make help` lists."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_task_that_is_named_exists(name: str) -> None:
    named = set(TASK.findall((REPOSITORY / name).read_text("utf-8")))
    assert len(named) > 3
    assert named - {"help"} <= targets()


def test_it_is_one_page_of_which_every_file_is_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    assert len(text.splitlines()) <= 80
    for file in re.findall(r"`(tests/[\w/]+\.py|[A-Z]+\.md)`", text):
        assert (REPOSITORY / file).is_file(), file
