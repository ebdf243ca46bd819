"""Which registry `cqrs-health` serves or checks."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from cqrs_ddd_health.config.settings import HealthSettings, unclaimed
from cqrs_ddd_health.domain.redaction import safe_text
from cqrs_ddd_health.errors import HealthError
from cqrs_ddd_health.registry import HealthRegistry
from cqrs_ddd_health.web.authorization import doorkeeper_of

from .output import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["chosen_registry"]

_NOTHING = """\
cqrs-health: there is nothing to {0}. A service without checks would always look healthy.
Name what to ask in the environment, or a registry of your application that has checks:
  CQRS_HEALTH_CHECKS__DATABASE__URL=postgresql+asyncpg://... cqrs-health {0}
  cqrs-health {0} --registry myapp.health:registry
  CQRS_HEALTH_SERVE_REGISTRY=myapp.health:registry cqrs-health {0}
or look at an example:
  cqrs-health {0} --demo"""


def chosen_registry(options: argparse.Namespace) -> HealthRegistry:
    """Return the registry that the options of `serve` or `check` mean.

    Raises:
        UsageError: if there is none, it has nothing to ask, or a setting cannot be used.
    """
    try:
        settings = HealthSettings.from_environment(strict=options.strict_settings)
        registry = _chosen(options, settings)
        if options.command == "serve":
            doorkeeper_of(registry.settings, None)
    except HealthError as error:
        raise UsageError(f"cqrs-health: {error}") from None
    _look_for_unclaimed(registry, strict=options.strict_settings)
    explained = options.command == "check" and options.explain and registry.names
    if registry.is_empty and not explained:
        raise UsageError(_NOTHING.format(options.command))
    return registry


def _look_for_unclaimed(registry: HealthRegistry, *, strict: bool) -> None:
    """Refuse options of checks that there are not, or warn of them: the name may have a slip."""
    unknown = unclaimed(registry.settings, registry.names)
    if unknown and strict:
        raise UsageError(f"cqrs-health: {'; '.join(unknown)}")
    for complaint in unknown:
        sys.stderr.write(f"{complaint}\n")


def _chosen(options: argparse.Namespace, settings: HealthSettings) -> HealthRegistry:
    if options.demo:
        return _demo(settings)
    path = options.registry or settings.serve_registry
    sys.path.insert(0, "")  # as `python -m` does: what stands in the current directory counts
    registry = _imported(path) if path else HealthRegistry(settings=settings)
    registry.register_from_settings()
    return registry


def _demo(settings: HealthSettings) -> HealthRegistry:
    from .demo import demo_registry

    try:
        return demo_registry(settings)
    except ImportError as error:
        raise UsageError(f"cqrs-health: the demo's database: {error}") from None
    except OSError as error:
        raise UsageError(
            f"cqrs-health: the demo cannot keep its database: {error}; "
            "set XDG_STATE_HOME to a directory that can be written to"
        ) from None


def _imported(path: str) -> HealthRegistry:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        registry = found() if callable(found) else found
    # It is the application's code, which may raise anything, and exit if it is a script.
    except (Exception, SystemExit) as error:
        why = safe_text(f"{type(error).__name__}: {error}")
        raise UsageError(f"cqrs-health: no registry at {path!r}: {why}") from None
    if not isinstance(registry, HealthRegistry):
        raise UsageError(
            f"cqrs-health: {path!r} is an instance of {type(registry).__name__}, "
            "it must be a HealthRegistry or a function that returns one"
        )
    return registry
