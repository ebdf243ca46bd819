"""A transition in the log leads to the trace of whoever asked, where OpenTelemetry is used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextvars import Context, ContextVar, copy_context
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.domain.transitions import LOGGER, asked_with
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import answer_of_script, eventually

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
correlation: ContextVar[str | None] = ContextVar("correlation_id")


class Keeper(logging.Handler):
    """Keeps what was logged."""

    def __init__(self, kept: list[logging.LogRecord]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    kept: list[logging.LogRecord] = []
    handler, logger = Keeper(kept), logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(before)


async def test_a_record_has_the_ids_of_the_span_in_which_was_asked(
    records: list[logging.LogRecord],
) -> None:
    async def check() -> bool:
        with TRACER.start_as_current_span("of the check"):
            return True

    registry = HealthRegistry()
    registry.register("check", check)
    with TRACER.start_as_current_span("of who asks") as span:
        registry.heartbeat("worker")
        await registry.report()
    await eventually(lambda: len(records) == 2)
    at = span.get_span_context()
    ids = {(record.__dict__["trace_id"], record.__dict__["span_id"]) for record in records}
    assert ids == {(f"{at.trace_id:032x}", f"{at.span_id:016x}")}
    assert ids == {(trace.format_trace_id(at.trace_id), trace.format_span_id(at.span_id))}


async def test_without_a_span_there_are_no_ids(records: list[logging.LogRecord]) -> None:
    registry = HealthRegistry()
    registry.register("check", FakeCheck())
    await registry.report()
    await eventually(lambda: len(records) == 1)
    assert records[0].__dict__.keys().isdisjoint({"trace_id", "span_id", "correlation_id"})


def asking(said: str | None) -> Context:
    """Return the context of an asker with that correlation id, in a span."""
    context = copy_context()
    context.run(correlation.set, said)
    context.run(TRACER.start_as_current_span("of who asks").__enter__)
    return context


def test_a_correlation_and_a_span_are_told_together() -> None:
    context = asking("of a request")
    assert asked_with(context).keys() == {"correlation_id", "trace_id", "span_id"}
    # A context is entered by one at a time; to be read it need not be entered itself.
    assert context.run(asked_with, context).keys() == asked_with(context).keys()


def test_a_correlation_that_was_set_back_to_none_is_not_told() -> None:
    assert asked_with(asking(None)).keys() == {"trace_id", "span_id"}


def broken() -> object:
    raise RuntimeError


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(),  # while it is being imported it has nothing yet
        SimpleNamespace(get_current_span=broken),
        SimpleNamespace(get_current_span=lambda: SimpleNamespace(get_span_context=broken)),
    ],
)
def test_a_tracer_that_fails_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)
    assert asked_with(copy_context()) == {}


def test_nobody_imports_opentelemetry_but_the_application() -> None:
    source = """
import sys
from cqrs_ddd_health import HealthRegistry
registry = HealthRegistry()
registry.register("check", lambda: False)
registry.report_sync()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert answer_of_script(source) == "[]"
