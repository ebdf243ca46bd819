"""The checks over TCP and HTTP with servers that misbehave, and with certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from cqrs_ddd_health import HttpHealthCheck, TcpHealthCheck
from tests.asking import asked, failure_of, registry_of, row_of
from tests.certificates import server_context, trusted_authority
from tests.fault_servers import (
    Blackhole,
    DripServer,
    FaultProxy,
    FaultServer,
    GarbageServer,
    ResetServer,
)
from tests.listening import LOCALHOST, listening
from tests.processes import wait_until
from tests.servers import OwnRedis, SharedServer, shared_servers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
LEAF_DAYS = 30


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fault", [Blackhole, DripServer])
async def test_a_service_that_never_ends_its_answer_is_a_timeout_and_is_left(
    fault: Callable[[], FaultServer], scheme: str
) -> None:
    with fault() as server:
        check = HttpHealthCheck(f"{scheme}://{LOCALHOST}:{server.port}")
        row = await asked(check, timeout_seconds=1)  # to load the certificates takes some of it
        kind, _ = failure_of(row)
        # What drips is no TLS, which shows at its first bytes.
        assert kind in ({"timeout", "exception"} if scheme == "https" else {"timeout"})
        assert server.accepted == 1
        assert await asyncio.to_thread(wait_until, lambda: server.connections == 0)


async def test_garbage_is_down_at_once() -> None:
    with GarbageServer() as server:
        row = await asked(HttpHealthCheck(f"http://{LOCALHOST}:{server.port}"))
        assert failure_of(row) == ("reported", None)
        row = await asked(HttpHealthCheck(f"https://{LOCALHOST}:{server.port}"))
        assert failure_of(row) == ("exception", "SSLError")
        assert await asyncio.to_thread(wait_until, lambda: server.connections == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_service_that_resets_is_down(scheme: str) -> None:
    with ResetServer() as server:
        row = await asked(HttpHealthCheck(f"{scheme}://{LOCALHOST}:{server.port}"))
    assert row.state == "down"


async def test_a_server_that_never_speaks_accepts_all_the_same() -> None:
    with Blackhole() as server:
        row = await asked(TcpHealthCheck(LOCALHOST, server.port))
        assert row.details == {"address": LOCALHOST}
        assert await asyncio.to_thread(wait_until, lambda: server.connections == 0)


async def test_a_server_that_is_away_is_down_and_up_when_it_is_back(own_redis: OwnRedis) -> None:
    with FaultProxy(own_redis.port) as proxy:
        registry = registry_of(TcpHealthCheck(LOCALHOST, proxy.port))
        assert (await row_of(registry)).state == "up"
        proxy.refuse()
        assert failure_of(await row_of(registry)) == ("exception", "ConnectionRefusedError")
        proxy.pass_through()
        assert (await row_of(registry)).state == "up"


@pytest.mark.parametrize("server", shared_servers(), ids=lambda server: server.name)
async def test_the_servers_of_the_machine_accept(server: SharedServer) -> None:
    assert (await asked(TcpHealthCheck(server.host, server.port))).state == "up"


# ------------------------------------------------------------------ certificates


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system trusts for the time of the test."""
    return trusted_authority(tmp_path, monkeypatch)


@asynccontextmanager
async def serving(
    authority: trustme.CA, name: str, *, days: float = LEAF_DAYS + 0.5
) -> AsyncGenerator[int]:
    """The port of a service with a certificate for that name."""
    expires = datetime.now(UTC) + timedelta(days=days)
    context = server_context(authority, name, expires=expires)
    async with listening(OK, tls=context) as listener:
        yield listener.port


@pytest.mark.parametrize("name", [LOCALHOST, "localhost"])
async def test_a_trusted_certificate_is_up_and_tells_when_it_expires(
    authority: trustme.CA, name: str
) -> None:
    async with serving(authority, name) as port:
        check = HttpHealthCheck(f"https://{name}:{port}")
        rows = [await asked(check), await asked(check)]
    for row in rows:
        assert row.state == "up"
        assert set(row.details) == {"status", "certificate_expires_at", "certificate_days_left"}
        assert row.details["certificate_days_left"] == LEAF_DAYS
        expires = datetime.fromisoformat(str(row.details["certificate_expires_at"]))
        assert LEAF_DAYS < (expires - datetime.now(UTC)) / timedelta(days=1) < LEAF_DAYS + 1


async def test_the_certificate_of_an_unexpected_answer_is_told_too(authority: trustme.CA) -> None:
    async with serving(authority, LOCALHOST) as port:
        row = await asked(HttpHealthCheck(f"https://{LOCALHOST}:{port}", expect="204"))
    assert row.state == "down"
    assert row.details["certificate_days_left"] == LEAF_DAYS


async def test_a_certificate_of_an_unknown_authority_is_down() -> None:
    async with serving(trustme.CA(), LOCALHOST) as port:
        row = await asked(HttpHealthCheck(f"https://{LOCALHOST}:{port}"))
    assert failure_of(row) == ("exception", "SSLCertVerificationError")


async def test_a_certificate_for_another_name_is_down(authority: trustme.CA) -> None:
    async with serving(authority, "shop.example") as port:
        row = await asked(HttpHealthCheck(f"https://{LOCALHOST}:{port}"))
    assert failure_of(row) == ("exception", "SSLCertVerificationError")


async def test_a_certificate_that_has_expired_is_down(authority: trustme.CA) -> None:
    async with serving(authority, LOCALHOST, days=-1) as port:
        row = await asked(HttpHealthCheck(f"https://{LOCALHOST}:{port}"))
    assert failure_of(row) == ("exception", "SSLCertVerificationError")


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_whenever_it_is_cancelled_no_tls_connection_is_left(
    authority: trustme.CA, turns: int
) -> None:
    async with serving(authority, LOCALHOST) as port:
        with FaultProxy(port) as proxy:
            check = HttpHealthCheck(f"https://{LOCALHOST}:{proxy.port}")
            assert await check()
            task = asyncio.create_task(check.check())
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await asyncio.to_thread(wait_until, lambda: proxy.connections == 0)
