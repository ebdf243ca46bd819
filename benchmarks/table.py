"""The results as a table in Markdown and as raw JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from .measure import Result, Spread

__all__ = ["machine", "merged", "section", "write_raw"]

HEADER = (
    "| Subject | What | Median (quartiles) | Target | Met | Ours against theirs |",
    "| --- | --- | --- | --- | --- | --- |",
)
PREAMBLE = "# Results\n\nWritten by `make bench`; README.md here says how to read it.\n"


def machine() -> str:
    """Return what the figures belong to: the Python and the number of cores."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def section(results: Iterable[Result], rounds: int) -> str:
    """Return the table of one run under its heading."""
    lines = (f"## {machine()}, {rounds} rounds", "", *HEADER, *map(_line, results))
    return "\n".join(lines) + "\n"


def merged(before: str, new: str) -> str:
    """Return the table of tables with `new` in the place of the same minor version's, or added."""
    _, *parts = before.split("\n## ")
    kept = [f"## {part.strip()}\n" for part in parts]
    kept = [part for part in kept if _minor(part) != _minor(new)]
    return "\n".join((PREAMBLE, *sorted((*kept, new), key=_minor)))


def write_raw(path: Path, results: Sequence[Result], rounds: int) -> None:
    """Write everything that was measured, unrounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine(),
        "rounds": rounds,
        "results": [_raw(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _minor(part: str) -> tuple[int, ...]:
    """Return the Python of a section: `## CPython 3.11.4, ...` is (3, 11)."""
    return tuple(int(number) for number in part.split()[2].rstrip(",").split(".")[:2])


def _line(result: Result) -> str:
    cells = (
        result.subject,
        result.what,
        _spread(result.spread, result.unit),
        _target(result),
        _verdict(result),
        result.note,
    )
    return f"| {' | '.join(cells)} |"


def _spread(spread: Spread, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    middle = f"{_figure(spread.median)}{unit}"
    if spread.low == spread.high:
        return middle
    return f"{middle} ({_figure(spread.low)} to {_figure(spread.high)})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    words = "at least" if result.target.is_least else "at most"
    return f"{words} {result.target.limit:g} {result.unit}".strip()


def _verdict(result: Result) -> str:
    if result.target is None:
        return ""
    return "yes" if result.is_met else "**no**"


def _raw(result: Result) -> dict[str, object]:
    return {
        "subject": result.subject,
        "what": result.what,
        "unit": result.unit,
        "median": result.spread.median,
        "low": result.spread.low,
        "high": result.spread.high,
        "target": _target(result),
        "met": result.is_met,
        **result.raw,
    }
