"""Beats of workers: where they are kept, and what follows from them."""

from .memory import MemoryHeartbeatStore

__all__ = ["MemoryHeartbeatStore"]
