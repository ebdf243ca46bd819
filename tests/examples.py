"""How many examples a property is tried on."""

from __future__ import annotations

import os

__all__ = ["examples"]

LEAST = 5


def examples(count: int) -> int:
    """Return `count`, or the share of it that TEST_EXAMPLES says, such as 0.1; at least 5."""
    return max(LEAST, round(count * float(os.environ.get("TEST_EXAMPLES", "1"))))
