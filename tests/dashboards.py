"""What a dashboard asks its data sources, as the tests of it ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from cqrs_ddd_health import HealthSettings
from cqrs_ddd_health.cli.export.dashboard import dashboard
from cqrs_ddd_health.cli.export.values import DeployValues

Page: TypeAlias = "dict[str, Any]"

PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}


def page_of(*given: str) -> Page:
    """Return the dashboard with the default settings, but for what is set."""
    page: Page = json.loads(dashboard(DeployValues.of(HealthSettings(), given)))
    return page


def titled(page: Page, title: str) -> Page:
    """Return the panel of a title."""
    (found,) = (panel for panel in page["panels"] if panel["title"] == title)
    return dict(found)


def targets_of(page: Page) -> Iterator[Page]:
    """Yield every query of a dashboard: of its panels and of its annotations."""
    for panel in page["panels"]:
        yield from panel["targets"]
    yield from page["annotations"]["list"]


def questions_of(page: Page) -> Iterator[str]:
    """Yield every question to Prometheus, those included whose answers are offered to choose."""
    for target in targets_of(page):
        if target["datasource"] == PROMETHEUS:
            yield target["expr"]
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
        elif variable["name"] == "error_rate":
            yield variable["query"]


def metrics_in(expression: str) -> set[str]:
    """Return the names of the metrics that an expression has."""
    return set(re.findall(r"\bcqrs_health_\w+", expression))


def variables_in(text: str) -> set[str]:
    """Return the names of the dashboard's variables that a text has, without Grafana's own."""
    names = re.findall(r"\$(?:\{(\w+)|(\w+))", text)
    return {name for found in names for name in found if name and not name.startswith("__")}
