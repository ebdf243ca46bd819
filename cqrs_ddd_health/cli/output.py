"""Standard output, which may be a terminal, a file on a full disk, or nobody any more."""

from __future__ import annotations

import os
import sys

__all__ = ["OutputError", "UsageError", "write"]


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why and what can."""


class OutputError(Exception):
    """What was to be said could not be; the message says why, but of a reader that has left."""


def write(text: str, encoding: str | None = None) -> None:
    """Write `text` to standard output at once, in its own encoding unless told otherwise.

    Raises:
        OutputError: if it is closed, or does not take it.
    """
    output = sys.stdout
    if output is None:  # it was closed before we were started
        raise OutputError("standard output is closed")
    try:
        output.flush()
        # A name may be any Unicode, whatever the terminal can show.
        output.buffer.write(text.encode(encoding or output.encoding, errors="replace"))
        output.buffer.flush()
    except OSError as error:
        # What could not be written would be tried again at the exit, and fail there again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        left = isinstance(error, BrokenPipeError)
        raise OutputError("" if left else f"cannot write the output: {error.strerror}") from None
