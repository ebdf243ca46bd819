"""What `cqrs-health export` writes or prints: schemas, and the table of shared heartbeats."""

from __future__ import annotations

from pathlib import Path

from .errors import HealthError
from .heartbeats.sql import ddl
from .schema import write_schemas
from .settings import HealthSettings
from .terminal import UsageError

__all__ = ["export"]


def export(what: str, where: str | None) -> str:
    """Export "schemas" into a directory or the "ddl" of a database; return what to print of it.

    Raises:
        UsageError: if that cannot be done.
    """
    return _ddl(where) if what == "ddl" else _schemas(Path(where or "schemas"))


def _schemas(directory: Path) -> str:
    try:
        return "".join(f"{file}\n" for file in write_schemas(directory))
    except OSError as error:
        raise UsageError(f"cqrs-health: cannot write the schemas: {error}") from None


def _ddl(database: str | None) -> str:
    try:
        url = HealthSettings.from_environment().heartbeat_store_url
        database = database or (url.get_secret_value() if url is not None else "")
        if not database:
            raise UsageError(
                "cqrs-health: which database? Name postgresql, mysql, mariadb or sqlite, or set "
                "CQRS_HEALTH_HEARTBEAT_STORE_URL"
            )
        return f"{ddl(database)};\n"
    except (HealthError, ImportError) as error:
        raise UsageError(f"cqrs-health: no table for that: {error}") from None
