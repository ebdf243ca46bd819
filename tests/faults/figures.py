"""The figures that fault tests record, and how they are taken."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

FILE = Path(__file__).parents[2] / "build" / "faults" / "figures.json"

SLACK = 5
"""A promise with a number is gated at five times the number: the machine has other work."""


@dataclass(frozen=True)
class Figure:
    """What one fault cost. Rows are numbered as in the list of faults that the suite injects."""

    row: int
    fault: str
    figure: float
    unit: str


class Record(Protocol):
    """Notes a figure, for the table at the end of the session."""

    def __call__(self, row: int, fault: str, figure: float, unit: str) -> None: ...


def write(figures: Iterable[Figure]) -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


def table(figures: Iterable[Figure]) -> list[str]:
    """The figures as lines of text, in the order of their rows."""
    rows = sorted(figures, key=lambda figure: (figure.row, figure.fault))
    width = max((len(figure.fault) for figure in rows), default=0)
    return [
        f"{figure.row:>3}  {figure.fault:<{width}}  {figure.figure:>10.4g} {figure.unit}"
        for figure in rows
    ]


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


async def oversleeping(seconds: float, rounds: int) -> float:
    """The control of an answer's time: by how much a bare sleep is late here and now, at p99."""
    late: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        late.append(time.perf_counter() - began - seconds)
    return p99(late)
