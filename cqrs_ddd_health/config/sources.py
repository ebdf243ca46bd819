"""Where settings come from: the environment, and the files that it names; and which said what."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from pydantic_core import from_json

from cqrs_ddd_health.domain.names import fold
from cqrs_ddd_health.errors import SettingsError

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "SECRETS_DIR",
    "env_file_path",
    "secrets_dir_path",
    "source_of",
    "variables",
]

_Object: TypeAlias = "Mapping[object, object]"

ENV_PREFIX = "CQRS_HEALTH_"
ENV_FILE = "ENV_FILE"
SECRETS_DIR = "SECRETS_DIR"


def env_file_path() -> Path | None:
    """Return the dotenv file that the environment names, if it names one.

    Raises:
        SettingsError: if there is none at that place.
    """
    return _named_path(ENV_FILE, Path.is_file, "a readable file")


def secrets_dir_path() -> Path | None:
    """Return the directory of secret files that the environment names, if it names one.

    Raises:
        SettingsError: if there is none at that place.
    """
    return _named_path(SECRETS_DIR, Path.is_dir, "a directory")


def variables(env_file: Path | None) -> Iterator[str]:
    """Return the names of all variables of the environment, and of a dotenv file."""
    yield from os.environ
    if env_file is not None:
        yield from _in_dotenv(env_file)


def source_of(variable: str) -> str | None:
    """Return where the setting that has the name of this variable was said, as it is now."""
    for where, values in _sources():
        by_fold = {fold(name): name for name in values}
        said, inner = variable, list[str]()
        while said:
            name = by_fold.get(fold(said))
            if name is not None and _holds(values[name], inner):
                return f"{name}{where}"
            said, _, part = said.rpartition("__")  # it may be in the JSON of its parent
            inner.insert(0, part)
    return None


def _sources() -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Each place that settings come from, and the variables that are there; the first one wins."""
    yield "", os.environ
    env_file = env_file_path()
    if env_file is not None:
        yield f" in {env_file}", _in_dotenv(env_file)
    secrets_dir = secrets_dir_path()
    if secrets_dir is not None:
        files = [file for file in secrets_dir.iterdir() if file.is_file()]
        yield f" in {secrets_dir}", {file.name: file.read_text("utf-8") for file in files}


def _holds(text: str | None, keys: Sequence[str]) -> bool:
    """Whether the value of a variable is JSON with that key in it, inside one another."""
    if not keys:
        return True
    try:
        value: object = from_json(text or "")
    except ValueError:
        return False
    for key in keys:
        if not isinstance(value, Mapping):
            return False
        entries = {fold(str(name)): item for name, item in cast("_Object", value).items()}
        if fold(key) not in entries:
            return False
        value = entries[fold(key)]
    return True


def _in_dotenv(env_file: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(env_file)


def _named_path(name: str, exists: Callable[[Path], bool], what: str) -> Path | None:
    value = os.environ.get(f"{ENV_PREFIX}{name}")
    if not value:
        return None
    path = Path(value)
    if not exists(path):
        raise SettingsError(f"{ENV_PREFIX}{name} must name {what}, there is none at {value!r}")
    return path
