"""Collects the figures of a session, writes them to build/faults and shows them."""

from __future__ import annotations

import pytest

from tests.faults.figures import Figure, Record, table, write

_figures: dict[tuple[int, str], Figure] = {}


@pytest.fixture(scope="session")
def record() -> Record:
    """Note a figure; of several with one name the largest counts."""

    def note(row: int, fault: str, figure: float, unit: str) -> None:
        before = _figures.get((row, fault))
        if before is None or before.figure < figure:
            _figures[row, fault] = Figure(row, fault, figure, unit)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _figures:
        return
    write(_figures.values())
    terminalreporter.section("figures")
    for line in table(_figures.values()):
        terminalreporter.write_line(line)
