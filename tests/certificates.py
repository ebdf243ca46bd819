"""Certificates of authorities of our own."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import pytest
import trustme

__all__ = ["server_context", "trusted_authority"]


def trusted_authority(directory: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Return a new authority that the system trusts until `monkeypatch` is undone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "authority.pem"))
    return authority


def server_context(
    authority: trustme.CA, name: str, *, expires: datetime | None = None
) -> ssl.SSLContext:
    """Return the context of a server with a certificate for that name."""
    certificate = authority.issue_cert(name, not_after=expires)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with certificate.private_key_and_cert_chain_pem.tempfile() as file:
        context.load_cert_chain(file)
    return context
