"""Why a store could not be written to, told from errors as drivers raise them."""

from __future__ import annotations

import pytest

from cqrs_ddd_health.heartbeats.stores.refusals import refusal_of

READS = "it takes no writes"


class WrappedError(Exception):
    """As SQLAlchemy's: around the driver's own."""

    def __init__(self, orig: object) -> None:
        super().__init__("(driver) words with hunter2")
        self.orig = orig


class CodedError(Exception):
    def __init__(self, **codes: str) -> None:
        super().__init__("no words")
        vars(self).update(codes)


class ReadOnlyError(Exception):
    """As redis-py's."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("hunter2"), "OSError"),
        (TimeoutError(), "TimeoutError"),
        (WrappedError(None), "WrappedError"),
        (WrappedError(CodedError(sqlstate="25006")), f"WrappedError, {READS}"),
        (WrappedError(CodedError(sqlstate="57P01")), "WrappedError, it is starting or stopping"),
        (caused(OSError(), CodedError(sqlstate="57P03")), "OSError, it is starting or stopping"),
        (WrappedError(ValueError(1290, "the --read-only option")), f"WrappedError, {READS}"),
        (WrappedError(ValueError(1836, "hunter2")), f"WrappedError, {READS}"),
        (WrappedError(ValueError(1021, "hunter2")), "WrappedError, its disk is full"),
        (WrappedError(ValueError(1045, "hunter2")), "WrappedError"),
        (WrappedError(CodedError(sqlite_errorname="SQLITE_READONLY")), f"WrappedError, {READS}"),
        (
            WrappedError(CodedError(sqlite_errorname="SQLITE_READONLY_DBMOVED")),
            "WrappedError, its file was moved or removed",
        ),
        (ReadOnlyError("You can't write"), f"ReadOnlyError, {READS}"),
        (ValueError("MISCONF Redis is configured"), "ValueError, it cannot save to its disk"),
        (ValueError("NOREPLICAS Not enough"), "ValueError, it has too few replicas"),
        (
            ValueError("Error running script (call to f_1): @user_script:6: -READONLY You can't"),
            f"ValueError, {READS}",
        ),
        (ValueError("-OOM command not allowed"), "ValueError, its memory is full"),
        (ValueError("LOADING Redis is loading"), "ValueError, it is starting or stopping"),
        (ValueError(f"{'x' * 600} READONLY"), "ValueError"),
        (OSError("nobody listens at port 1290"), "OSError"),
        (ValueError(b"READONLY"), "ValueError"),
    ],
)
def test_a_reason_is_said_where_the_server_gives_one(error: Exception, words: str) -> None:
    assert refusal_of(error) == words


def test_an_error_that_stands_for_itself_is_looked_at_once() -> None:
    error = WrappedError(None)
    error.orig = error
    assert refusal_of(error) == "WrappedError"
