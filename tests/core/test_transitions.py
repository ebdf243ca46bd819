"""Transitions in the log: one record each, its parts as attributes, through standard logging."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import cast

import pytest

from cqrs_ddd_health import CheckOptions, CheckResult, HealthRegistry, HealthSettings
from cqrs_ddd_health.domain.transitions import LOGGER, show_on_stderr
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import answer_of_script, eventually

correlation: ContextVar[str] = ContextVar("correlation_id")


class Records(logging.Handler):
    """Keeps what was logged, as a structured handler would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append({**vars(record), "text": record.getMessage()})


@pytest.fixture
def records() -> Iterator[Records]:
    handler, logger = Records(), logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def parts(record: dict[str, object]) -> tuple[object, ...]:
    names = ("component", "component_kind", "from_state", "to_state", "failure_kind", "levelno")
    return tuple(record[name] for name in names)


async def test_each_transition_is_one_record(records: Records) -> None:
    registry = HealthRegistry()
    check = registry.register("database", FakeCheck())
    for result in (CheckResult(), CheckResult(), OSError("refused"), OSError(), CheckResult()):
        check.result = result
        await registry.report()
    await eventually(lambda: len(records.kept) == 3)
    assert list(map(parts, records.kept)) == [
        ("database", "check", None, "up", None, logging.INFO),
        ("database", "check", "up", "down", "exception", logging.WARNING),
        ("database", "check", "down", "up", None, logging.INFO),
    ]
    assert [record["text"] for record in records.kept] == [
        "check 'database' went from unknown to up",
        "check 'database' went from up to down (exception: OSError: refused)",
        "check 'database' went from down to up",
    ]


async def test_a_record_says_since_when_and_how_long_it_took(records: Records) -> None:
    registry = HealthRegistry()
    registry.register("database", FakeCheck())
    row = (await registry.report()).components[0]
    await eventually(lambda: len(records.kept) == 1)
    assert records.kept[0]["since"] == row.since.isoformat()
    assert records.kept[0]["latency_seconds"] == row.latency_seconds
    assert "correlation_id" not in records.kept[0]


async def test_a_worker_has_no_latency(records: Records) -> None:
    registry = HealthRegistry()
    registry.heartbeat("outbox")
    await registry.report()
    await eventually(lambda: len(records.kept) == 1)
    assert parts(records.kept[0])[:4] == ("outbox", "worker", None, "up")
    assert records.kept[0]["latency_seconds"] is None


async def test_a_record_has_the_correlation_id_of_who_asked(records: Records) -> None:
    async def check() -> bool:
        correlation.set("of the check")
        return True

    registry = HealthRegistry()
    registry.register("check", check)
    registry.register("hangs", asyncio.Event().wait, timeout_seconds=0.01)
    registry.register("blocks", threading.Event().wait, timeout_seconds=0.01)
    registry.heartbeat("worker")
    correlation.set("of who asks")
    first = asyncio.create_task(registry.report())
    await asyncio.sleep(0)
    correlation.set("of who joins")
    await registry.report()
    await first
    await eventually(lambda: len(records.kept) == 4)
    found = {cast("str", record["component"]): record["correlation_id"] for record in records.kept}
    checks = ("check", "hangs", "blocks")
    assert {found.pop(check) for check in checks} == {"of who asks"}
    assert found.keys() == {"worker"}


async def test_the_background_refresh_asks_for_nobody(records: Records) -> None:
    registry = HealthRegistry()
    registry.register("check", FakeCheck(), options=CheckOptions(initial_delay_seconds=0))
    correlation.set("of who starts it")
    async with registry.running():
        await eventually(lambda: len(records.kept) == 1)
    assert "correlation_id" not in records.kept[0]


@pytest.mark.parametrize(("level", "states"), [(logging.WARNING, ["down"]), (logging.ERROR, [])])
async def test_what_the_logger_does_not_take_is_not_logged(
    records: Records, level: int, states: list[str]
) -> None:
    logging.getLogger(LOGGER).setLevel(level)
    registry, told = HealthRegistry(), list[object]()
    registry.add_listener(told.append)
    check = registry.register("database", FakeCheck())
    for result in (CheckResult(), CheckResult(state="down"), CheckResult()):
        check.result = result
        await registry.report()
    await eventually(lambda: len(told) == 3 and len(records.kept) == len(states))
    assert [record["to_state"] for record in records.kept] == states


def raises(_: logging.LogRecord) -> None:
    raise OSError


def does_nothing(_: logging.LogRecord) -> None:
    pass


@pytest.mark.parametrize("fault", [raises, does_nothing])
async def test_a_handler_that_fails_hurts_nobody(
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[logging.LogRecord], None],
) -> None:
    handler = logging.Handler()
    monkeypatch.setattr(handler, "handle", fault)
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        registry = HealthRegistry(settings=HealthSettings())
        registry.register("database", FakeCheck())
        assert (await registry.report()).status == "healthy"
        await eventually(lambda: len(records.kept) == 1)
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)


def test_an_application_without_logging_finds_nothing_on_its_stderr() -> None:
    source = """
import time
from cqrs_ddd_health import HealthRegistry
registry = HealthRegistry()
registry.register("check", lambda: False)
print(registry.report_sync().status)
time.sleep(0.1)  # as long as the log's thread may take
"""
    assert answer_of_script(source) == "unhealthy"


def test_an_application_that_shows_its_log_is_not_shown_it_twice() -> None:
    logger = logging.getLogger(LOGGER)
    before = list(logger.handlers)
    assert logging.getLogger().handlers, "pytest has one"
    show_on_stderr()
    assert logger.handlers == before
