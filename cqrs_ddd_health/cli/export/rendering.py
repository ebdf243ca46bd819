"""Fills values into what is deployed: templates, each of which is one file, and a dashboard."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import ClassVar

from .dashboard import dashboard
from .values import DeployValues

__all__ = ["KINDS", "rendered"]

KINDS: Mapping[str, tuple[str, ...]] = {
    "prometheus": ("prometheus.yml",),
    "alerts": ("alerts.yml",),
    "alertmanager": ("alertmanager.yml",),
    "kubernetes": ("kubernetes.yml",),
    "compose": ("docker-compose.health.yml",),
    "grafana": (
        "grafana/dashboards/health.json",
        "grafana/provisioning/alerting/contact-points.yml",
        "grafana/provisioning/alerting/policies.yml",
        "grafana/provisioning/alerting/rules.yml",
        "grafana/provisioning/dashboards/health.yml",
        "grafana/provisioning/datasources/health.yml",
    ),
}
"""The files of each kind, by their names below the directory that they are written to."""

_MADE: Mapping[str, Callable[[DeployValues], str]] = {"grafana/dashboards/health.json": dashboard}
_TEMPLATES = files("cqrs_ddd_health.cli.export") / "templates"


class _Template(string.Template):
    """With a delimiter that means nothing in YAML, PromQL or Go's templates."""

    delimiter = "@"
    idpattern: ClassVar[str] = "(?-i:[a-z][a-z_]*)"


def rendered(kind: str, values: DeployValues) -> dict[str, str]:
    """Return what is in each file of a kind."""
    return {name: _filled(name, values) for name in KINDS[kind]}


def _filled(name: str, values: DeployValues) -> str:
    if name in _MADE:
        return _MADE[name](values)
    text = _TEMPLATES.joinpath(name).read_text("utf-8")
    return _Template(text).substitute(values.filled)
