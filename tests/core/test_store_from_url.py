"""Heartbeat stores from URLs: what is refused, and in what words; none of them shows a secret."""

from __future__ import annotations

import sys

import pytest

from cqrs_ddd_health import InvalidNameError, InvalidOptionError, MemoryHeartbeatStore
from cqrs_ddd_health.heartbeats.stores.from_url import store_from_url

SECRET = "hunter2"


def refused(url: str) -> str:
    with pytest.raises((InvalidOptionError, ImportError)) as caught:
        store_from_url(url, "default")
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "it is empty"),
        (SECRET, "it has no scheme; it may be one of memory, postgresql"),
        (f"{SECRET}:pass@host", "it has no scheme"),
        (f"gopher://{SECRET}", "there is no heartbeat store for gopher://; it may be one of"),
        ("http+unix://x", "there is no heartbeat store for http+unix://"),
        ("reddis://host", "for reddis://, did you mean redis"),
        ("posgresql+asyncpg://host", "for posgresql+asyncpg://, did you mean postgresql?"),
        (f"redis+tls://:{SECRET}@host", "there is no heartbeat store for redis+tls://"),
        ("memory+x://", "there is no heartbeat store for memory+x://"),
        (f"memory://{SECRET}", "it must be memory:// and nothing else"),
        (f"memory:///{SECRET}", "a memory URL has no path"),
        (f"memory://?password={SECRET}", "a memory URL has no such argument"),
        (f"memory:{SECRET}", "a memory URL begins with memory://"),
    ],
)
def test_what_is_not_the_url_of_a_store(url: str, words: str) -> None:
    assert words in refused(url)


def test_memory_is_a_store_of_this_process() -> None:
    assert isinstance(store_from_url("MEMORY://", "default"), MemoryHeartbeatStore)


def test_a_namespace_is_a_name() -> None:
    with pytest.raises(InvalidNameError, match="namespace of heartbeats"):
        store_from_url("memory://", "")


@pytest.mark.parametrize(
    ("url", "module", "words"),
    [
        ("redis://host", "redis", r"pip install 'cqrs-ddd-health\[redis\]'"),
        ("sqlite+aiosqlite:///x", "sqlalchemy", r"pip install 'cqrs-ddd-health\[sqlalchemy\]'"),
    ],
)
def test_a_library_that_is_missing_is_named(
    url: str, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        store_from_url(url, "default")
