"""Checks that the settings name by URL, and where the options of any check came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from cqrs_ddd_health.checks.callable import Check, asker_of
from cqrs_ddd_health.checks.connected import ConnectedCheck
from cqrs_ddd_health.config.settings import HealthSettings, variable_of
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.errors import HealthError, SettingsError
from cqrs_ddd_health.runtime.greenlets import RLock
from cqrs_ddd_health.runtime.tasks import all_of

from .check_table import Catalog
from .single_flight import Slot

__all__ = ["ConfiguredChecks", "OptionOrigin", "origins_of"]

_GENERAL, *_LAYERS = (
    "CQRS_HEALTH_CHECK_TIMEOUT_SECONDS",
    "the check's timeout_seconds",
    "options= in code",
    "a keyword in code",
)


class ConfiguredChecks:
    """What `register_from_settings` made, and so has to be closed by the registry."""

    def __init__(self, settings: HealthSettings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._made: dict[str, Check] = {}
        self._lock = RLock()

    def register(self) -> tuple[str, ...]:
        """Register a check for each URL in the settings, all or none, and return their names.

        They come in the order of their names, an environment has none of its own. One that was made
        before stays as it is, and one that is switched off is a stand-in that is never asked.
        """
        with self._lock:  # two threads that find nothing made would make everything twice
            made = dict(self._make())
            self._made |= made
            return tuple(self._catalog.set_up(folded, check) for folded, check in made.items())

    def _make(self) -> Iterator[tuple[str, Check]]:
        from cqrs_ddd_health.checks.from_url import (
            check_from_url,  # with modules that few applications need
        )

        problems: list[str] = []
        for folded, said in sorted(self._settings.checks.items(), key=itemgetter(0)):
            if said.url is None or folded in self._made:
                continue
            try:
                require_name(folded, "check")
                # What is switched off may be broken: that may be why.
                check = check_from_url(said.url.get_secret_value()) if said.enabled else _is_off
                asker_of(folded, check)  # it would be refused when registered
                yield folded, check
            except (HealthError, ImportError) as error:
                problems.append(f"{variable_of(folded, 'url')}: {error}")
        if problems:
            raise SettingsError("; ".join(problems)) from None

    @property
    def is_connected(self) -> bool:
        """Whether there may be clients to close."""
        return bool(self._connected())

    async def aclose(self) -> None:
        """Close the clients of all checks that were made; a check that is asked connects anew."""
        # At once: each may have to wait for a server that is frozen.
        endings = (check.aclose() for check in self._connected())
        await all_of(*endings, name="cqrs-health close")

    def begin_process(self) -> None:
        """Start anew in a forked child, which must not share a socket with its parent."""
        self._lock = RLock()
        for check in self._connected():
            check.begin_process()

    def _connected(self) -> Sequence[ConnectedCheck]:
        return [check for check in self._made.values() if isinstance(check, ConnectedCheck)]


def _is_off() -> bool:
    raise AssertionError("a check that is switched off was asked")


class OptionOrigin(NamedTuple):
    """The value that an option of a check has, and who said so."""

    value: object
    origin: str


def origins_of(slot: Slot, settings: HealthSettings) -> Mapping[str, OptionOrigin]:
    """Return each option of a check by its name; the last who said something has the say."""
    return {
        option: OptionOrigin(getattr(slot.options, option), _origin(option, slot, settings))
        for option in CheckOptions.model_fields
    }


def _origin(option: str, slot: Slot, settings: HealthSettings) -> str:
    *in_code, specific = slot.layers
    if specific is not None and option in specific.model_fields_set:
        return settings.origin_of(variable_of(slot.name, option))
    for layer, name in zip(reversed(in_code), reversed(_LAYERS), strict=True):
        if layer is not None and option in layer.model_fields_set:
            return name
    if option == "timeout_seconds" and "check_timeout_seconds" in settings.model_fields_set:
        return settings.origin_of(_GENERAL)
    return "default"
