"""Whose class something is, told without an import of any library to find out."""

from __future__ import annotations

__all__ = ["comes_from"]


def comes_from(instance: object, package: str) -> bool:
    """Whether any class that it is an instance of stands in that package, or below it."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(instance).__mro__)
