"""Which module of a package imports which, read from the source, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["imports_of", "modules_of", "violations"]


def modules_of(package: Path) -> dict[str, str]:
    """Return the source of each module of a package by its name below the package."""
    found: dict[str, str] = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file.read_text("utf-8")
    return found


def imports_of(module: str, modules: Mapping[str, str], package: str) -> Iterator[str]:
    """Return the full names that a module imports, anywhere in it."""
    is_package = any(other.startswith(f"{module}.") for other in modules) or not module
    full = f"{package}.{module}".rstrip(".").split(".")
    for node in ast.walk(ast.parse(modules[module])):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = full[: len(full) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{name.name}" for name in node.names)


def violations(
    modules: Mapping[str, str],
    floors: Sequence[Sequence[str]],
    optional: Mapping[str, Sequence[str]],
    package: str,
) -> list[str]:
    """Return every import that goes up, sideways to a later module, or out where it may not.

    `floors` has the modules from the lowest floor to the highest, on each in their order; with
    every import going to an earlier one there is no cycle. `optional` says of each dependency
    which modules may import it.
    """
    order = [module for floor in floors for module in floor]
    found = [f"{module} stands on no floor" for module in modules if module not in order]
    found += [f"{module} is not there" for module in order if module not in modules]
    for module in modules:
        for name in sorted(set(imports_of(module, modules, package))):
            found += _of_one(module, name, order, optional, package)
    return found


def _of_one(
    module: str,
    name: str,
    order: Sequence[str],
    optional: Mapping[str, Sequence[str]],
    package: str,
) -> list[str]:
    top = name.partition(".")[0]
    if top != package:
        allowed = optional.get(top)
        is_bad = allowed is not None and module not in allowed
        return [f"{module} imports {top}"] if is_bad else []
    target = name.removeprefix(package).lstrip(".")
    if target not in order or module not in order or target == module:
        return []
    if target and module.startswith(f"{target}."):
        return []  # `from . import name`: its own package, which is being imported already
    is_above = order.index(target) >= order.index(module)
    return [f"{module} imports {target}, which is not below it"] if is_above else []
