"""Which components a report is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .models import Probe
from .names import require_name
from .options import require_probe, require_several

__all__ = ["EVERYTHING", "Selection"]


class Selection(NamedTuple):
    """Which components a report is about."""

    probe: Probe | None
    tags: frozenset[str]

    @classmethod
    def of(cls, probe: Probe | None, tags: Iterable[str]) -> Selection:
        """Return the selection that an asker means, or raise `InvalidOptionError`."""
        if probe is not None:
            require_probe(probe)
        names = [require_name(tag, "tag") for tag in require_several("tags", tags)]
        return cls(probe, frozenset(names))

    def takes(self, *, critical: bool, probes: Sequence[Probe], tags: Sequence[str]) -> bool:
        """Whether a component is in it: what is not critical gates no probe."""
        if self.probe is not None and not (critical and self.probe in probes):
            return False
        return not self.tags or not self.tags.isdisjoint(tags)


EVERYTHING = Selection(None, frozenset())
