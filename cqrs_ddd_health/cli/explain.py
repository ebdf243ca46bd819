"""Why a check is asked as it is: its options, who said each of them, and what it gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias, cast

from cqrs_ddd_health.engine.configured_checks import OptionOrigin

__all__ = ["explained", "explained_as_json"]

Origins: TypeAlias = Mapping[str, OptionOrigin]


def explained(checks: Mapping[str, Origins]) -> str:
    """Return a paragraph for each check: what it gates, then a line for each of its options."""
    return "\n".join("".join(f"{line}\n" for line in _paragraph(*item)) for item in checks.items())


def explained_as_json(checks: Mapping[str, Origins]) -> str:
    """Return an object with, for each check, `gates` and for each option `value` and `origin`."""
    return json.dumps(
        {
            name: {
                "gates": _gates(origins),
                "options": {option: said._asdict() for option, said in origins.items()},
            }
            for name, origins in checks.items()
        },
        ensure_ascii=False,
    )


def _paragraph(name: str, origins: Origins) -> Iterable[str]:
    yield f"{name} gates {', '.join(_gates(origins)) or 'nothing'}"
    options = max(map(len, origins))
    values = max(len(_shown(said.value)) for said in origins.values())
    for option, said in origins.items():
        yield f"  {option:<{options}}  {_shown(said.value):<{values}}  {said.origin}"


def _gates(origins: Origins) -> list[str]:
    """Return the probes that it can fail: none unless it is critical and enabled."""
    if not origins["critical"].value or not origins["enabled"].value:
        return []
    return list(cast("Iterable[str]", origins["probes"].value))


def _shown(value: object) -> str:
    """As one would write it into a variable."""
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", value))) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
