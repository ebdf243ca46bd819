"""What a dashboard of Grafana is made of, with every property that its schema requires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TypeAlias

__all__ = [
    "COLUMNS",
    "MOST_STEPS",
    "Json",
    "choice",
    "colored",
    "data_source",
    "graph",
    "heatmap",
    "history",
    "linked",
    "logs",
    "placed",
    "source_of",
    "stat",
    "table",
    "text_box",
    "texts",
    "thresholds",
]

Json: TypeAlias = "dict[str, object]"

COLUMNS = 24
"""How wide Grafana's grid is."""
MOST_STEPS = 120
"""How many steps of time a history has: cells narrower than that cannot be told apart."""

_LEGEND: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}


# ---------------------------------------------------------------- panels


def stat(title: str, description: str, target: Json, **defaults: object) -> Json:
    """Return a panel of one number, coloured as its thresholds or mappings say."""
    options: Json = {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    return _panel("stat", title, description, target, options=options, fields=defaults)


def history(title: str, description: str, target: Json, **defaults: object) -> Json:
    """Return a panel of a row for each series, and in it a cell for each step of time."""
    options: Json = {
        "colWidth": 0.9,
        "legend": {**_LEGEND, "showLegend": False},
        "rowHeight": 0.9,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    fields = {
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        **defaults,
    }
    drawn = _panel("status-history", title, description, target, options=options, fields=fields)
    return {**drawn, "maxDataPoints": MOST_STEPS}


def graph(
    title: str,
    description: str,
    target: Json,
    *,
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    **defaults: object,
) -> Json:
    """Return a panel of lines over time, from zero up; `custom` says how else they are drawn."""
    options: Json = {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}}
    fields = {
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "fillOpacity": 10,
            "showPoints": "never",
            **(custom or {}),
        },
        "min": 0,
        **defaults,
    }
    return _panel(
        "timeseries",
        title,
        description,
        target,
        options=options,
        fields=fields,
        overrides=overrides,
    )


def heatmap(title: str, description: str, target: Json, unit: str) -> Json:
    """Return a panel of the buckets of a histogram over time; `unit` is that of their bounds."""
    options: Json = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 64,
            "reverse": False,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    buckets = {**target, "format": "heatmap"}
    return _panel("heatmap", title, description, buckets, options=options, fields={"unit": "short"})


def logs(title: str, description: str, target: Json) -> Json:
    """Return a panel of log lines, the latest first."""
    options: Json = {
        "dedupStrategy": "none",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showLogContextToggle": True,
        "showTime": True,
        "sortOrder": "Descending",
        "wrapLogMessage": True,
    }
    return _panel("logs", title, description, target, options=options, fields={"unit": "none"})


def table(title: str, description: str, target: Json, overrides: Sequence[Json] = ()) -> Json:
    """Return a panel of rows as the data source has them."""
    options: Json = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True}
    custom: Json = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    fields: Json = {"unit": "none", "custom": custom}
    return _panel(
        "table", title, description, target, options=options, fields=fields, overrides=overrides
    )


def placed(rows: Sequence[tuple[int, Sequence[Json]]]) -> Iterator[Json]:
    """Yield panels with their places: rows from the top, each of panels of one height and width."""
    numbers = count(1)
    top = 0
    for height, panels in rows:
        width = COLUMNS // len(panels)
        for column, each in enumerate(panels):
            place = {"h": height, "w": width, "x": column * width, "y": top}
            yield {"id": next(numbers), "gridPos": place, **each}
        top += height


def _panel(
    kind: str,
    title: str,
    description: str,
    target: Json,
    *,
    options: Json,
    fields: Json,
    overrides: Sequence[Json] = (),
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": target["datasource"],
        "targets": [{"refId": "A", **target}],
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "options": options,
    }


# ---------------------------------------------------------------- what fields look like


def texts(words: Mapping[int, tuple[str, str]]) -> list[Json]:
    """Return the mappings of values to a text and a colour each."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def thresholds(below: str, *steps: tuple[float, str]) -> Json:
    """Return the colours of values: `below` all steps, then from each step on its own."""
    above = [{"color": color, "value": _shortest(value)} for value, color in steps]
    return {"mode": "absolute", "steps": [{"color": below, "value": None}, *above]}


def colored(field: str, color: str) -> Json:
    """Return the override that gives the field of a name its colour."""
    return _override(field, "color", {"mode": "fixed", "fixedColor": color})


def linked(field: str, title: str, url: str) -> Json:
    """Return the override that gives the values of a field a link, in the place of any other."""
    return _override(field, "links", [{"title": title, "url": url}])


def _override(field: str, name: str, value: object) -> Json:
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": name, "value": value}],
    }


def _shortest(value: float) -> float:
    return int(value) if value == int(value) else value


# ---------------------------------------------------------------- variables


def source_of(kind: str) -> Json:
    """Return the data source that the variable of that kind chooses."""
    return {"type": kind, "uid": f"${{{kind}}}"}


def data_source(kind: str, label: str, uid: str) -> Json:
    """Return the variable that chooses a data source of a kind, at first the one with that uid."""
    return {
        "type": "datasource",
        "name": kind,
        "label": label,
        "description": f"The data source of {label} that is asked.",
        "query": kind,
        "regex": "",
        "current": {"text": label, "value": uid},
        "options": [],
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }


def choice(name: str, label: str, query: str) -> Json:
    """Return the variable that chooses some of the values, or all, that Prometheus knows."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": f"Whose health is shown, by the label {name!r} that Prometheus adds.",
        "datasource": source_of("prometheus"),
        "query": {"qryType": 1, "query": query, "refId": f"Values of {name}"},
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "hide": 0,
    }


def text_box(name: str, label: str, description: str, value: str = "") -> Json:
    """Return the variable that one types."""
    shown: Json = {"text": value, "value": value}
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": description,
        "query": value,
        "current": shown,
        "options": [{"selected": True, **shown}],
        "hide": 0,
    }
