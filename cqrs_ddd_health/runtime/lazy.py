"""Lets a package have names that are imported when they are first used.

It is imported with the package itself, which has to cost nothing: it imports as little.
"""

from __future__ import annotations

__all__ = ["imported"]


def imported(package: dict[str, object], modules: dict[str, str], name: str) -> object:
    """Return what the `__getattr__` of a package has to, and keep it there for the next time.

    `package` is its `globals()`.

    Raises:
        AttributeError: if the name is not one of those whose `modules` are told.
    """
    if name not in modules:
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f".{modules[name]}", str(package["__name__"]))
    package[name] = value = getattr(module, name)
    return value
