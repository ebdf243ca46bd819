"""Lets a package have names that are imported when they are first used.

It is imported with the package itself, which has to cost nothing: it imports as little.
"""

from __future__ import annotations

import sys

__all__ = ["imported"]


def imported(package: str, modules: dict[str, str], name: str) -> object:
    """Return what a package's `__getattr__` has to, and keep it there for the next time.

    Raises:
        AttributeError: if the name is not one of those whose `modules` are told.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{modules[name]}", package), name)
    setattr(sys.modules[package], name, value)
    return value
