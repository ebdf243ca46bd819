"""What `cqrs-health export` writes or prints: schemas, files to deploy, a table for heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cqrs_ddd_health.cli.output import UsageError
from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.errors import HealthError
from cqrs_ddd_health.heartbeats.stores.sql.store import ddl

from .rendering import KINDS, rendered
from .schemas import write_schemas
from .values import DeployValues

__all__ = ["export"]


def export(what: str, where: str | None, given: Sequence[str] = ()) -> str:
    """Export something, and return what to print of it.

    "schemas" and what is deployed are written to a directory, the "ddl" of a database is printed.
    `given` are values of what is deployed, "name=value" each.

    Raises:
        UsageError: if that cannot be done.
    """
    if what in KINDS:
        return _deployed(what, Path(where or "deploy"), given)
    if given:
        raise UsageError(f"cqrs-health: --set is for {', '.join(KINDS)}")
    return _ddl(where) if what == "ddl" else _schemas(Path(where or "schemas"))


def _deployed(kind: str, directory: Path, given: Sequence[str]) -> str:
    try:
        values = DeployValues.of(HealthSettings.from_environment(), given)
    except HealthError as error:
        raise UsageError(f"cqrs-health: {error}") from None
    written: list[str] = []
    try:
        for name, text in rendered(kind, values).items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            written.append(f"{file}\n")
    except OSError as error:
        raise UsageError(f"cqrs-health: cannot write the files: {error}") from None
    return "".join(written)


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
