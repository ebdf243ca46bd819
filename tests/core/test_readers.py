"""Foreign code is told on threads of ours: none can hold up who tells it, or the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from cqrs_ddd_health import HealthRegistry, HealthSettings
from cqrs_ddd_health.runtime.readers import MAX_THREADS, MAX_WAITING, Readers
from tests.core.actors import (
    PATIENCE_SECONDS,
    Gated,
    Told,
    eventually,
    eventually_sync,
    kind_of,
    log_is_written,
    run_script,
)

LISTENER = "cqrs-health-listener"


def threads() -> int:
    return sum(thread.name == LISTENER for thread in threading.enumerate())


class Counting:
    """A reader that notes what it reads, and hangs while its gate is closed."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.read: list[int] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        if not hangs:
            self.gate.set()

    def __call__(self, news: int) -> None:
        self.begun.set()
        self.gate.wait(PATIENCE_SECONDS)
        self.read.append(news)


def readers_of(*given: Counting) -> Readers[int]:
    readers: Readers[int] = Readers()
    for one in given:
        readers.add(one)
    return readers


def wait_for(reader: Counting, news: int) -> None:
    eventually_sync(lambda: reader.read[-1:] == [news])


def test_ten_thousand_readers_are_told_in_order_by_few_threads() -> None:
    given = [Counting() for _ in range(10_000)]
    readers, most = readers_of(*given), 0
    for news in range(5):
        readers.tell(news)
        most = max(most, threads())
    eventually_sync(lambda: not readers.is_reading)
    assert {tuple(one.read) for one in given} == {(0, 1, 2, 3, 4)}
    assert most <= MAX_THREADS
    assert readers.dropped == 0
    eventually_sync(lambda: threads() == 0)


def test_as_many_as_there_are_threads_but_one_may_hang() -> None:
    hung = [Counting(hangs=True) for _ in range(MAX_THREADS - 1)]
    well = [Counting() for _ in range(100)]
    readers = readers_of(*hung, *well)
    readers.tell(1)
    readers.tell(2)
    eventually_sync(lambda: all(one.read == [1, 2] for one in well))
    eventually_sync(lambda: all(one.begun.is_set() for one in hung))
    assert all(one.read == [] for one in hung)
    for one in hung:
        one.gate.set()
    eventually_sync(lambda: all(one.read == [1, 2] for one in hung))
    eventually_sync(lambda: threads() == 0)


def test_beyond_that_the_others_wait_and_miss_nothing() -> None:
    hung = [Counting(hangs=True) for _ in range(MAX_THREADS)]
    well = Counting()
    readers = readers_of(*hung, well)
    readers.tell(1)
    eventually_sync(lambda: all(one.begun.is_set() for one in hung))
    readers.tell(2)
    assert (well.read, threads()) == ([], MAX_THREADS)
    hung[0].gate.set()
    eventually_sync(lambda: well.read == [1, 2])
    for one in hung:
        one.gate.set()
    eventually_sync(lambda: not readers.is_reading)


def test_one_that_hangs_misses_the_oldest_and_the_others_nothing() -> None:
    hung, well = Counting(hangs=True), Counting()
    readers = readers_of(hung, well)
    readers.tell(0)
    eventually_sync(hung.begun.is_set)
    for news in range(1, MAX_WAITING + 4):
        readers.tell(news)
        wait_for(well, news)
    assert readers.dropped == 3
    hung.gate.set()
    eventually_sync(lambda: not readers.is_reading)
    assert hung.read == [0, *range(4, MAX_WAITING + 4)]
    assert well.read == list(range(MAX_WAITING + 4))
    assert readers.dropped == 3


def test_what_all_have_read_is_kept_no_longer() -> None:
    readers = readers_of(Counting(), Counting())
    for news in range(3):
        readers.tell(news)
    eventually_sync(lambda: not readers.is_reading)
    eventually_sync(lambda: len(readers._news) == 0)


def test_one_that_is_removed_before_its_turn_reads_nothing() -> None:
    hung = [Counting(hangs=True) for _ in range(MAX_THREADS)]
    removed, well = Counting(), Counting()
    readers = readers_of(*hung, removed, well)
    readers.tell(1)
    eventually_sync(lambda: all(one.begun.is_set() for one in hung))
    readers.remove(removed)
    readers.remove(hung[0])
    for one in hung:
        one.gate.set()
    eventually_sync(lambda: well.read == [1])
    readers.tell(2)
    eventually_sync(lambda: not readers.is_reading)
    assert well.read == [1, 2]
    assert (removed.read, hung[0].read) == ([], [1])


def test_what_a_reader_raises_is_passed_on() -> None:
    failures: list[tuple[int, BaseException]] = []
    readers: Readers[int] = Readers(lambda news, error: failures.append((news, error)))
    error = SystemExit(3)

    def fails(_news: int) -> None:
        raise error

    readers.add(fails)
    readers.tell(1)
    readers.tell(2)
    eventually_sync(lambda: not readers.is_reading)
    assert failures == [(1, error), (2, error)]


# --- the log


class Remote(logging.Handler):
    """A log that is far away: it takes a record when its gate is open, and then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.gate.wait(PATIENCE_SECONDS)
        self.messages.append(record.getMessage())
        raise ConnectionError("the log is away")


@contextmanager
def remote_log() -> Generator[Remote]:
    logger, remote = logging.getLogger("cqrs_ddd_health"), Remote()
    logger.addHandler(remote)
    try:
        yield remote
    finally:
        remote.gate.set()
        log_is_written()
        logger.removeHandler(remote)


def test_a_beat_that_is_dropped_neither_waits_for_the_log_nor_fails_as_it_does() -> None:
    registry = HealthRegistry(settings=HealthSettings(max_workers=1))
    with remote_log() as remote:
        for worker in ("first", "second", "third"):
            registry.heartbeat(worker)
        assert (registry.dropped_beats, remote.messages) == (2, [])
    assert remote.messages == ["beats are dropped, over 1 workers: the first is of 'second'"]


async def test_a_log_that_hangs_holds_up_no_report_and_no_listener() -> None:
    registry = HealthRegistry()
    told: list[str] = []

    def listener(transition: object) -> None:
        told.append(type(transition).__name__)
        raise ValueError("said to a log that hangs")

    registry.add_listener(listener)
    check = registry.register("check", Told(False))
    with remote_log() as remote:
        assert kind_of(await registry.report()) == "falsy"
        check.outcome = True
        assert kind_of(await registry.report()) is None
        await eventually(lambda: len(told) == 2)
        assert remote.messages == []


async def test_ten_thousand_listeners_hold_up_no_report() -> None:
    registry = HealthRegistry()
    release, heard = threading.Event(), list[int]()

    def of(number: int) -> None:
        def listener(_transition: object) -> None:
            heard.append(number)
            release.wait(PATIENCE_SECONDS)

        registry.add_listener(listener)

    for number in range(10_000):
        of(number)
    gated = registry.register("check", Gated())
    gated.gate.set()
    before = threading.active_count()
    assert kind_of(await registry.report()) is None
    await eventually(lambda: len(heard) == MAX_THREADS)
    assert threading.active_count() <= before + MAX_THREADS
    release.set()
    await eventually(lambda: len(heard) == 10_000)


SHORT_PROCESS = """
import logging, threading
{handler}
from cqrs_ddd_health import HealthRegistry, HealthSettings
registry = HealthRegistry(settings=HealthSettings(max_workers=1))
registry.heartbeat("first")
registry.heartbeat("second")
"""
HANGS = """
class Hangs(logging.Handler):
    def handle(self, record):  # without its lock, which `logging` waits for at the exit
        threading.Event().wait()
logging.getLogger("cqrs_ddd_health").addHandler(Hangs())
"""


def test_a_process_that_ends_at_once_has_said_what_it_had_to_say() -> None:
    done = run_script(SHORT_PROCESS.format(handler=""))
    assert done.returncode == 0
    assert "the first is of 'second'" in done.stderr


def test_a_log_that_hangs_does_not_keep_the_process() -> None:
    began = time.monotonic()
    done = run_script(SHORT_PROCESS.format(handler=HANGS))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < PATIENCE_SECONDS
