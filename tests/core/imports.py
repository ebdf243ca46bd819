"""Which module of a package imports which, read from the source, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["circle", "imports_of", "layer_violations", "modules_of", "outside_violations"]


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


def room_of(module: str) -> str:
    """Return the room that a module lies in: the folder at the top, or the file there."""
    return module.partition(".")[0]


def targets_of(module: str, modules: Mapping[str, str], package: str) -> set[str]:
    """Return the modules of the package that a module imports, or imports something of."""
    names = {
        name.removeprefix(package).lstrip(".")
        for name in imports_of(module, modules, package)
        if name.partition(".")[0] == package
    }
    # What is imported of a package may be a module of it: then that one, and not the package.
    inner = {name for name in names if name in modules}
    return {
        name
        for name in inner
        if name != module and not any(other.startswith(f"{name}.") for other in inner if name)
    }


def layer_violations(
    modules: Mapping[str, str], layers: Sequence[Sequence[str]], package: str
) -> list[str]:
    """Return every import that goes up, or sideways into another room.

    `layers` has the rooms from the lowest layer to the highest; a module may import what lies in
    layers below its own, and in its own room.
    """
    rank = {room: number for number, layer in enumerate(layers) for room in layer}
    found = [f"{module} lies in no room" for module in modules if room_of(module) not in rank]
    for module in modules:
        here = room_of(module)
        for target in sorted(targets_of(module, modules, package)):
            there = room_of(target)
            if here != there and rank.get(there, 0) >= rank.get(here, len(layers)):
                found.append(f"{module} imports {target}, which is not below it")
    return found


def outside_violations(
    modules: Mapping[str, str], allowed: Mapping[str, Sequence[str]], package: str
) -> list[str]:
    """Return every import of a library, or of one of our modules, by a module that may not.

    `allowed` says of each of these which modules may import it.
    """
    found: list[str] = []
    for module in modules:
        names = set(imports_of(module, modules, package))
        for wanted, importers in allowed.items():
            is_imported = any(f"{name}.".startswith(f"{wanted}.") for name in names)
            if is_imported and module not in importers:
                found.append(f"{module} imports {wanted}")
    return found


def circle(modules: Mapping[str, str], package: str) -> list[str]:
    """Return modules of which each imports the next, and the last one the first; none is best."""
    graph = {module: targets_of(module, modules, package) for module in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []
