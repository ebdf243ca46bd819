"""TLS to MySQL and MariaDB: what a URL says of it, for drivers that want an `SSLContext`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from cqrs_ddd_health.errors import InvalidOptionError

from .argument_values import Place, Places, Told, ciphers, directory, file, flag, places

__all__ = ["TLS", "tls_context", "tls_mode"]


def _mode(said: str) -> str:
    mode = _MODES.get(said.upper().replace("-", "_"))
    if mode is None:
        # No driver can go on without TLS where there is none: PREFERRED is what none of them does.
        raise ValueError("must be one of DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY")
    return mode


_MODES = {
    **{mode: mode for mode in ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")},
    # As libpq calls them.
    "DISABLE": "DISABLED",
    "REQUIRE": "REQUIRED",
    "VERIFY_FULL": "VERIFY_IDENTITY",
}

TLS: Places = {
    **dict.fromkeys(("ssl_mode", "ssl-mode", "sslmode"), Place(_mode, ("tls", "mode"))),
    **places(flag, "ssl", "ssl_disabled", into=("tls",)),
    **places(flag, "ssl_verify_cert", "ssl_verify_identity", "ssl_check_hostname", into=("tls",)),
    **places(file, "ssl_ca", "ssl_cert", "ssl_key", into=("tls",)),
    **places(directory, "ssl_capath", into=("tls",)),
    **places(ciphers, "ssl_cipher", into=("tls",)),
}
"""The arguments of a URL that say how; all of them are parts of one, `tls`."""


def tls_mode(tls: Mapping[str, object]) -> str:
    """Return which of MySQL's modes is meant, where it may be said in other words."""
    mode = tls.get("mode")
    if isinstance(mode, str):
        return mode
    if tls.get("ssl_disabled") or tls.get("ssl") is False:
        return "DISABLED"
    has_authority = "ssl_ca" in tls or "ssl_capath" in tls
    checks_name = tls.get("ssl_verify_identity", tls.get("ssl_check_hostname", has_authority))
    if checks_name:
        return "VERIFY_IDENTITY"
    return "VERIFY_CA" if tls.get("ssl_verify_cert", has_authority) else "REQUIRED"


def tls_context(tls: Told) -> ssl.SSLContext | None:
    """Return what does as the URL says, or None for no TLS.

    Raises:
        InvalidOptionError: if one of the files is not what it should be.
    """
    mode = tls_mode(tls)
    if mode == "DISABLED":
        return None
    try:
        return _context(mode, {name: str(value) for name, value in tls.items()})
    except (OSError, ssl.SSLError):
        raise InvalidOptionError(
            "ssl_ca, ssl_cert and ssl_key must name PEM files, and the key be of the certificate"
        ) from None


def _context(mode: str, tls: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.get("ssl_ca"), capath=tls.get("ssl_capath"))
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    if "ssl_cert" in tls:
        context.load_cert_chain(tls["ssl_cert"], tls.get("ssl_key"))
    if "ssl_cipher" in tls:
        context.set_ciphers(tls["ssl_cipher"])
    return context
