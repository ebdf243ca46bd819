"""The registered checks by name, with the options that each of them ended up with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cqrs_ddd_health.checks.callable import Check, asker_of, is_loop_bound
from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.names import fold, require_name
from cqrs_ddd_health.domain.options import (
    CheckOptions,
    options_from_keywords,
    require_instance,
)
from cqrs_ddd_health.domain.selection import Selection
from cqrs_ddd_health.errors import DuplicateNameError, UnknownNameError
from cqrs_ddd_health.runtime.greenlets import RLock

from .single_flight import Slot

__all__ = ["Catalog"]

MAX_SELECTIONS = 64
"""How many answers to "which checks?" are remembered until the next change."""


class _Snapshot(NamedTuple):
    """The slots after some change, and what was selected of them since."""

    change: object
    slots: Mapping[str, Slot]
    selected: dict[Selection, tuple[Slot, ...]]


class Catalog:
    """The slots of a registry. Readers need no lock: the first one after a change makes a copy."""

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._general = CheckOptions(timeout_seconds=settings.check_timeout_seconds)
        self._slots: dict[str, Slot] = {}
        self._by_fold: dict[str, str] = {}
        self._last_change: object = object()
        self._snapshot = _Snapshot(self._last_change, {}, {})
        self.begin_process()

    def begin_process(self) -> None:
        """Start anew in a forked child, where nobody is left to open a lock that was held."""
        self._lock = RLock()

    @property
    def slots(self) -> Mapping[str, Slot]:
        """All slots by name, in the order of their registration; what is read never changes."""
        return self._current().slots

    def _current(self) -> _Snapshot:
        snapshot, change = self._snapshot, self._last_change
        if snapshot.change is not change:
            # A dict copies in one step of the interpreter. What changes meanwhile may be in it
            # already: the next reader finds one more change, and copies once more.
            snapshot = self._snapshot = _Snapshot(change, self._slots.copy(), {})
        return snapshot

    def add(
        self,
        name: str,
        check: Check,
        options: CheckOptions | None,
        keywords: CheckOptions,
        *,
        replace: bool,
    ) -> None:
        """Put `check` under `name`; `HealthRegistry.register` says what is refused."""
        name = require_name(name, "check")
        require_instance("options", options, CheckOptions)
        own, specific = _own_options(name, check), self._settings.options_of(name)
        # Many checks say nothing of their own, and then share what is kept.
        layers = tuple(map(_unless_empty, (own, options, keywords, specific)))
        resolved = self._general.overlaid(*layers) if any(layers) else self._general
        ask = asker_of(name, check, blocking=resolved.blocking)
        slot = Slot(name, ask, resolved, layers, loop_bound=is_loop_bound(check))
        with self._lock:
            self._require_free(name, replace=replace)
            self._by_fold[fold(name)] = name
            if name in self._slots:
                self._slots[name].gone = True
            self._slots[name] = slot
            self._last_change = object()

    def set_up(self, folded: str, check: Check) -> str:
        """Put `check` under the name that the environment spells so, and return that name.

        What has it already gives way and leaves its options: the environment is more specific.
        """
        with self._lock:
            name = self._by_fold.get(folded, folded)
            slot = self._slots.get(name)
            _, options, keywords, _ = slot.layers if slot is not None else (None,) * 4
            self.add(name, check, options, keywords or CheckOptions(), replace=True)
        return name

    def slot(self, name: str) -> Slot:
        """Return the slot of that check, or raise `UnknownNameError`."""
        try:
            return self._slots[name]
        except (KeyError, TypeError):
            known = list(self.slots)
            raise UnknownNameError(f"there is no check {name!r}, only {known!r}") from None

    def remove(self, name: str) -> None:
        """Remove that check, or raise `UnknownNameError`."""
        with self._lock:
            self.slot(name).gone = True
            del self._by_fold[fold(name)]
            del self._slots[name]
            self._last_change = object()

    def select(self, selection: Selection) -> tuple[Slot, ...]:
        """Return the slots of enabled checks that the selection takes."""
        _, slots, selected = self._current()
        taken = selected.get(selection)
        if taken is None:
            taken = tuple(slot for slot in slots.values() if _is_taken(slot.options, selection))
            if len(selected) < MAX_SELECTIONS:
                selected[selection] = taken
        return taken

    def _require_free(self, name: str, *, replace: bool) -> None:
        if name in self._slots:
            if replace:
                return
            raise DuplicateNameError(f"check {name!r} is registered already, and replace is false")
        other = self._by_fold.get(fold(name))
        if other is not None:
            raise DuplicateNameError(
                f"check {name!r} and check {other!r} are both {fold(name).upper()} in the "
                "environment; rename one"
            )


def _own_options(name: str, check: Check) -> CheckOptions | None:
    """Return what a typed check says of itself: its `timeout_seconds`, if it has one."""
    if not hasattr(type(check), "check"):
        return None
    own = {"timeout_seconds": getattr(check, "timeout_seconds", None)}
    return options_from_keywords(name, own)


def _unless_empty(options: CheckOptions | None) -> CheckOptions | None:
    return options if options is not None and options.model_fields_set else None


def _is_taken(options: CheckOptions, selection: Selection) -> bool:
    return options.enabled and selection.takes(
        critical=options.critical, probes=options.probes, tags=options.tags
    )
