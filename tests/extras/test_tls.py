"""TLS where it is trusted, and where it is not, for everything that a URL can ask by TLS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme

from cqrs_ddd_health import HealthRegistry, HealthSettings, run_blocking
from tests.certificates import server_context, trusted_authority
from tests.core.actors import row_of
from tests.fault_servers import FaultProxy
from tests.listening import listening
from tests.processes import LOCALHOST
from tests.servers import OwnNats, SharedServer, shared_servers
from tests.service import bare_environment, run_cli

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
SCHEMES = {"redis": "rediss", "rabbitmq": "amqps", "mosquitto": "mqtts"}


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, whose authority everybody here trusts, by the variable of OpenSSL."""
    return server_context(trusted_authority(tmp_path, monkeypatch), LOCALHOST)


@pytest.fixture
def stranger() -> ssl.SSLContext:
    """A server's context that nobody trusts."""
    return server_context(trustme.CA(), LOCALHOST)


async def states(url: str) -> list[str]:
    checks = {"own": {"url": url, "timeout_seconds": 10.0}}
    registry = HealthRegistry(settings=HealthSettings.model_validate({"checks": checks}))
    registry.register_from_settings()
    async with registry.running():
        rows = [row_of(await registry.report(), "own") for _ in range(2)]
    return [f"{row.state} {row.failure.exception_type if row.failure else ''}" for row in rows]


@pytest.mark.parametrize("server", shared_servers(*SCHEMES), ids=lambda server: server.name)
async def test_a_server_whose_certificate_is_trusted_is_asked(
    server: SharedServer, context: ssl.SSLContext
) -> None:
    with FaultProxy(server.port, tls=context) as proxy:
        user = "guest:guest@" if server.name == "rabbitmq" else ""
        url = f"{SCHEMES[server.name]}://{user}{LOCALHOST}:{proxy.port}"
        assert await states(url) == ["up ", "up "]
        assert proxy.accepted == 1


@pytest.mark.parametrize("server", shared_servers(*SCHEMES), ids=lambda server: server.name)
async def test_a_server_whose_certificate_is_not_trusted_is_down(
    server: SharedServer, stranger: ssl.SSLContext
) -> None:
    with FaultProxy(server.port, tls=stranger) as proxy:
        user = "guest:guest@" if server.name == "rabbitmq" else ""
        url = f"{SCHEMES[server.name]}://{user}{LOCALHOST}:{proxy.port}"
        found = await states(url)
    assert {state.partition(" ")[0] for state in found} == {"down"}


@pytest.fixture
def nats_by_tls(tmp_path: Path) -> Generator[OwnNats]:
    """A NATS that insists on TLS, with a certificate of `tmp_path`."""
    authority = trustme.CA()
    certificate = authority.issue_cert(LOCALHOST)
    authority.cert_pem.write_to_path(str(tmp_path / "nats_authority.pem"))
    files = tmp_path / "nats.pem", tmp_path / "nats.key"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(files[0]), append=True)
    certificate.private_key_pem.write_to_path(str(files[1]))
    with OwnNats(tls=files) as server:
        yield server


@pytest.mark.parametrize("trusted", [True, False])
async def test_nats_by_tls(
    nats_by_tls: OwnNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nats_authority.pem"))
    found = await states(f"tls://{LOCALHOST}:{nats_by_tls.port}")
    assert {state.partition(" ")[0] for state in found} == {"up" if trusted else "down"}


@pytest.mark.parametrize(("trusted", "code"), [(True, 0), (False, 1)])
async def test_a_probe_by_tls(
    context: ssl.SSLContext, stranger: ssl.SSLContext, tmp_path: Path, *, trusted: bool, code: int
) -> None:
    async with listening(OK, tls=context if trusted else stranger) as listener:
        done = await run_blocking(
            lambda: run_cli(
                "probe",
                f"https://{LOCALHOST}:{listener.port}/",
                environment=bare_environment(tmp_path, SSL_CERT_FILE=os.environ["SSL_CERT_FILE"]),
                directory=tmp_path,
            )
        )
    assert done.returncode == code, done
    why = "its certificate is not trusted: unable to get local issuer certificate\n"
    assert done.stderr == ("" if trusted else why)
