"""The code blocks of a Markdown file, as things that can be run.

A traceback through a block names the file and the line that it stands on.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeAlias

Namespace: TypeAlias = dict[str, Any]

_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})\s*(?P<info>[^`]*?)\s*")
_HEADING = re.compile(r"(?P<level>#{1,6})\s+(?P<title>.*?)\s*#*")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    path: Path
    index: int
    """Its place among the blocks that were asked for."""
    info: str
    section: str
    """The level-2 heading that it stands under, or nothing."""
    heading: str
    """The nearest heading above it, of any level."""
    line: int
    """The line of its first line of code, from 1."""
    source: str

    def __str__(self) -> str:
        return f"{self.index}-{self.heading.replace(' ', '_')}"

    def compiled(self) -> CodeType:
        """The block as a module in which `await` may stand at the top."""
        padding = "\n" * (self.line - 1)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: CodeType = compile(
            padding + self.source, str(self.path), "exec", flags, dont_inherit=True
        )
        return code

    async def run(self, namespace: Namespace) -> None:
        """Run it as it stands; what it defines is in `namespace` then."""
        namespace.setdefault("__name__", self.path.stem)
        returned = FunctionType(self.compiled(), namespace)()
        if inspect.iscoroutine(returned):
            await returned

    def shown(self) -> list[dict[str, Any]]:
        """The dicts that its comments show, in order."""
        comments = re.findall(r"^# (.*)$", self.source, re.MULTILINE)
        dicts: list[dict[str, Any]] = []
        text = ""
        for comment in comments:
            if text or comment.startswith("{"):
                text += f"{comment}\n"
                if comment.startswith(("}", "{")) and _is_closed(text):
                    dicts.append(ast.literal_eval(text))
                    text = ""
        if text:
            raise ValueError(f"{self.path}:{self.line}: a comment shows half a dict: {text}")
        return dicts


def python_blocks(path: Path) -> list[Block]:
    """The blocks whose info string is `python` and nothing else."""
    return blocks_of(path, "python")


def blocks_of(path: Path, info: str | None = None) -> list[Block]:
    """The blocks with that info string, or all.

    Raises:
        ValueError: if a fence is never closed.
    """
    blocks: list[Block] = []
    for block in _all_blocks(path):
        if info is None or block.info == info:
            blocks.append(dataclasses.replace(block, index=len(blocks)))
    return blocks


def _all_blocks(path: Path) -> Iterator[Block]:
    lines = iter(enumerate(path.read_text(encoding="utf-8").split("\n"), start=1))
    section = heading = ""
    for number, line in lines:
        if title := _HEADING.fullmatch(line):
            heading = title["title"]
            section = heading if title["level"] == "##" else section
        elif fence := _FENCE.fullmatch(line):
            source = _until(fence["fence"], lines)
            if source is None:
                raise ValueError(f"{path}:{number}: the block is never closed")
            yield Block(path, 0, fence["info"], section, heading, number + 1, source)


def _until(fence: str, lines: Iterator[tuple[int, str]]) -> str | None:
    """What stands before the fence's counterpart; nothing at all if there is none."""
    source = ""
    for _, line in lines:
        closing = line.strip()
        if len(closing) >= len(fence) and set(closing) == {fence[0]}:
            return source
        source += f"{line}\n"
    return None


def _is_closed(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True
