"""`cqrs-health`: health from a terminal."""

from .parser import main

__all__ = ["main"]
