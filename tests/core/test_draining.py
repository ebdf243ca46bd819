"""SIGTERM is held back while the process says that it leaves, and then takes its course."""

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
from collections.abc import Callable

import pytest

from cqrs_ddd_health import (
    DrainError,
    HealthError,
    HealthRegistry,
    HealthSettings,
    InvalidOptionError,
    drain_on_sigterm,
)
from tests.core.actors import PATIENCE_SECONDS, Gated, log_is_written
from tests.core.sigterms import LONG, SOON, Server, terminate, until

pytestmark = pytest.mark.usefixtures("unchanged_sigterm")


def test_it_drains_at_once_and_the_server_is_told_after_the_delay() -> None:
    registry = HealthRegistry()
    drained: list[bool] = []
    server = Server(lambda: drained.append(registry.draining)).install()
    with drain_on_sigterm(registry, delay_seconds=SOON):
        assert not registry.draining
        terminate()
        assert (registry.draining, server.signals) == (True, [])
        until(lambda: server.signals == [signal.SIGTERM])
    assert drained == [True]
    assert signal.getsignal(signal.SIGTERM) is server


def test_the_second_one_is_passed_on_at_once_and_so_are_all_after_it() -> None:
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        terminate()
        assert server.signals == []
        terminate()
        assert server.signals == [signal.SIGTERM]
        terminate()
        assert server.signals == [signal.SIGTERM] * 2


def test_no_delay_drains_and_passes_on() -> None:
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=0):
        terminate()
    assert (registry.draining, server.signals) == (True, [signal.SIGTERM])


def test_the_delay_is_that_of_the_settings_unless_told_otherwise() -> None:
    assert HealthSettings().drain_seconds == 5
    at_once = HealthRegistry(settings=HealthSettings(drain_seconds=0))
    server = Server().install()
    with drain_on_sigterm(at_once):
        terminate()
        assert server.signals == [signal.SIGTERM]
    with drain_on_sigterm(at_once, delay_seconds=LONG):
        terminate()
        assert server.signals == [signal.SIGTERM]


def test_the_longest_delay_counts_and_every_registry_is_drained() -> None:
    one, other, server = HealthRegistry(), HealthRegistry(), Server().install()
    with (
        drain_on_sigterm(one, delay_seconds=0),
        drain_on_sigterm(other, delay_seconds=LONG),
        drain_on_sigterm(one, delay_seconds=0),
    ):
        terminate()
        assert (one.draining, other.draining, server.signals) == (True, True, [])
    assert signal.getsignal(signal.SIGTERM) is server


def test_sigint_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with drain_on_sigterm(HealthRegistry(), delay_seconds=LONG):
        assert signal.getsignal(signal.SIGINT) is before


def test_closed_it_lets_the_signal_that_it_held_back_take_its_course() -> None:
    server = Server().install()
    threads = threading.active_count()
    drain = drain_on_sigterm(HealthRegistry(), delay_seconds=SOON)
    terminate()
    assert server.signals == []
    drain.close()
    drain.close()
    assert server.signals == [signal.SIGTERM]
    until(lambda: threading.active_count() == threads)
    threading.Event().wait(2 * SOON)
    assert server.signals == [signal.SIGTERM]
    with drain_on_sigterm(HealthRegistry(), delay_seconds=LONG):
        terminate()  # it is the first one again
        terminate()
        assert server.signals == [signal.SIGTERM] * 2
    assert server.signals == [signal.SIGTERM] * 2  # which had its course


def test_a_registry_that_joins_a_process_that_is_leaving_is_told_so() -> None:
    one, late, server = HealthRegistry(), HealthRegistry(), Server().install()
    with drain_on_sigterm(one, delay_seconds=LONG):
        terminate()
        with drain_on_sigterm(late, delay_seconds=LONG):
            assert late.draining
        assert server.signals == []


def test_a_delay_beyond_what_a_thread_can_wait_is_as_good_as_the_longest() -> None:
    server = Server().install()
    with drain_on_sigterm(HealthRegistry(), delay_seconds=1e12):
        terminate()
        assert server.signals == []
        terminate()
        assert server.signals == [signal.SIGTERM]


def test_what_ignores_it_goes_on_ignoring_it() -> None:
    registry = HealthRegistry()
    with drain_on_sigterm(registry, delay_seconds=0):
        terminate()
        terminate()
    assert registry.draining
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_where_there_is_no_thread_to_be_had_it_is_passed_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    registry, server = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        terminate()
    assert (registry.draining, server.signals) == (True, [signal.SIGTERM])


def errors_of(call: Callable[[], object]) -> list[BaseException]:
    """What a call raises in another thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except DrainError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return raised


def test_it_is_for_the_main_thread() -> None:
    registry = HealthRegistry()
    assert issubclass(DrainError, HealthError)
    (error,) = errors_of(lambda: drain_on_sigterm(registry, delay_seconds=0))
    assert "main thread" in str(error)
    with drain_on_sigterm(registry, delay_seconds=0) as drain:
        (error,) = errors_of(drain.close)
        assert "main thread" in str(error)
        assert errors_of(registry.report_sync) == []
    assert errors_of(drain.close) == []


def test_a_lifespan_in_another_thread_has_no_signal_to_wait_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, server = HealthRegistry(), Server().install()

    async def lifespan() -> None:
        with drain_on_sigterm(registry, delay_seconds=LONG):
            await registry.report()

    assert errors_of(lambda: asyncio.run(lifespan())) == []
    log_is_written()
    assert "not in the main thread" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is server


def test_a_handler_that_is_none_of_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_sign: int) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", nothing)
        with pytest.raises(DrainError, match="other than Python"):
            drain_on_sigterm(HealthRegistry(), delay_seconds=0)
    registry = HealthRegistry()
    with drain_on_sigterm(registry, delay_seconds=0):
        with monkeypatch.context() as patch:
            patch.setattr(signal, "getsignal", nothing)
            asyncio.run(registry.report())
        server = Server().install()
    assert signal.getsignal(signal.SIGTERM) is server


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5"])
def test_a_delay_is_a_number_of_seconds(delay: float) -> None:
    with pytest.raises(InvalidOptionError, match="delay_seconds"):
        drain_on_sigterm(HealthRegistry(), delay_seconds=delay)


def test_a_server_that_is_started_later_is_drained_once_somebody_asked() -> None:
    registry, first = HealthRegistry(), Server().install()
    with drain_on_sigterm(registry, delay_seconds=LONG):
        ours = signal.getsignal(signal.SIGTERM)
        server = Server().install()
        asyncio.run(registry.report(probe="ready"))
        asyncio.run(registry.report(probe="ready"))
        terminate()
        assert (registry.draining, server.signals) == (True, [])
        terminate()
        assert server.signals == [signal.SIGTERM]
        # It has shut down, puts back what it found, and raises the signal again, as uvicorn does.
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
        assert (server.signals, first.signals) == ([signal.SIGTERM], [signal.SIGTERM])
        signal.signal(signal.SIGTERM, first)
    assert signal.getsignal(signal.SIGTERM) is first


async def test_while_it_drains_ready_over_http_waits_for_no_check() -> None:
    registry, check = HealthRegistry(), Gated()
    registry.register("check", check)
    registry.drain()
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await registry.report(probe="ready", refreshed=True, deadline_seconds=LONG)
    assert [row.failure and row.failure.kind for row in report.components] == ["pending"]
    check.gate.set()
    assert (await registry.report(probe="ready")).status == "healthy"  # code gets what it asks
