"""What uWSGI says of a process of its own: whether threads run there, and whether it forks yet."""

from __future__ import annotations

import os
import sys
from typing import Protocol, cast

from .greenlets import NoThreadsError

__all__ = ["is_before_fork", "require_threads"]


class _Uwsgi(Protocol):
    """The module that uWSGI puts into the interpreters which it embeds."""

    @property
    def has_threads(self) -> int: ...
    def masterpid(self) -> int: ...
    def mule_id(self) -> int: ...
    def worker_id(self) -> int: ...


def require_threads() -> None:
    """Go on only where threads run all the time.

    Raises:
        NoThreadsError: if uWSGI keeps the interpreter to itself between requests.
    """
    uwsgi = _uwsgi()
    if uwsgi is not None and not uwsgi.has_threads:
        raise NoThreadsError(
            "uWSGI lets no thread of Python run between requests: set enable-threads = true"
        )


def is_before_fork() -> bool:
    """Whether uWSGI has imported the application and has yet to fork its workers.

    A worker that is forked while a thread of Python runs may hang for ever: without
    `py-call-uwsgi-fork-hooks` nothing has that thread let go of the interpreter.
    """
    uwsgi = _uwsgi()
    return (
        uwsgi is not None
        and not uwsgi.worker_id()
        and not uwsgi.mule_id()
        and uwsgi.masterpid() in {0, os.getpid()}
    )


def _uwsgi() -> _Uwsgi | None:
    found = sys.modules.get("uwsgi")
    return cast("_Uwsgi", found) if hasattr(found, "has_threads") else None
