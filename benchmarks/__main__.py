"""Measures, prints the table and writes it. The exit code is 1 if a target is missed."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import (
    beats,
    killed,
    memory,
    metrics,
    probing,
    refresh,
    reports,
    serving,
    starting,
    stores,
    waiting,
)
from .measure import Result
from .table import merged, section, write_raw

HERE = Path(__file__).parent
TABLE = HERE / "RESULTS.md"
RAW = HERE.parent / "build" / "benchmarks" / "raw.json"

SUBJECTS: dict[str, Callable[[int], Iterable[Result]]] = {
    reports.SUBJECT: reports.measure,
    waiting.SUBJECT: waiting.measure,
    beats.SUBJECT: beats.measure,
    stores.SUBJECT: stores.measure,
    killed.SUBJECT: killed.measure,
    serving.SUBJECT: serving.measure,
    starting.SUBJECT: starting.measure,
    probing.SUBJECT: probing.measure,
    memory.SUBJECT: memory.measure,
    metrics.SUBJECT: metrics.measure,
    refresh.SUBJECT: refresh.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the committed table is only written by a run of everything."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=list(SUBJECTS), help="one subject; writes no table")
    parser.add_argument("--rounds", type=int, default=11, help="11 if not given")
    options = parser.parse_args(arguments)
    names: list[str] = [options.only] if options.only else list(SUBJECTS)
    rounds: int = max(options.rounds, 1)
    results: list[Result] = []
    for name in names:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        results.extend(SUBJECTS[name](rounds))
    table = section(results, rounds)
    print(table)
    write_raw(RAW, results, rounds)
    if not options.only:
        before = TABLE.read_text("utf-8") if TABLE.exists() else ""
        TABLE.write_text(merged(before, table), "utf-8")
    return 0 if all(result.is_met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
