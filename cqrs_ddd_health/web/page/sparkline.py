"""The recent results of a check as a small picture, which says the same in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from cqrs_ddd_health.domain.models import ComponentState
from cqrs_ddd_health.engine.history import MAX_RESULTS, PastResult

__all__ = ["sparkline"]

HEIGHT = 9  # so that a step up or down is one digit
WIDTH = MAX_RESULTS
CALM_SECONDS = 0.005
"""A latency up to this is low, whatever the others were: what is always quick shows no peaks."""

# At what height the middle of the stroke of a result that is not up runs: its class says how wide.
_MIDDLES: dict[ComponentState, tuple[str, float]] = {"degraded": ("g", 7), "down": ("d", 4.5)}


def sparkline(results: Sequence[PastResult]) -> str:
    """Return the results as SVG, the latest at the right; nothing if there is none.

    What was up rises as high as it took long, and what was not is a block: the whole height for
    down, the lower half for degraded.
    """
    if not results:
        return ""
    left = WIDTH - len(results)
    paths = (
        f'<path class=u d="{_area(results, left)}"/>',
        *(
            f'<path class="{name}" d="{lines}"/>'
            for state, (name, middle) in _MIDDLES.items()
            if (lines := _lines(results, state, left, middle))
        ),
    )
    return (
        f'<svg class=k viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio=none role=img'
        f' aria-label="{_words(results)}">{"".join(paths)}</svg>'
    )


def _words(results: Sequence[PastResult]) -> str:
    counts = Counter(result.state for result in results)
    longest = max(result.latency_seconds for result in results)
    said = ", ".join(
        f"{counts[state]} {state}" for state in ("up", "degraded", "down") if counts[state]
    )
    return f"last {len(results)}: {said}; up to {longest * 1000:.3g} ms"


def _area(results: Sequence[PastResult], left: int) -> str:
    """The outline of the latencies of what was up, from left to right."""
    drawn, last = f"M{left} {HEIGHT}", 0
    for height, length in _runs(_heights(results)):
        drawn += f"v{last - height}h{length}"
        last = height
    return f"{drawn}V{HEIGHT}"


def _heights(results: Iterable[PastResult]) -> Iterator[int]:
    up = [result.latency_seconds for result in results if result.state == "up"]
    scale = max((CALM_SECONDS, *up))
    for result in results:
        part = result.latency_seconds / scale
        yield max(round(HEIGHT * part), 1) if result.state == "up" else 0


def _lines(results: Sequence[PastResult], state: ComponentState, left: int, middle: float) -> str:
    """A thick line along each run of results in that state."""
    drawn, gap = "", left
    for is_so, length in _runs(result.state == state for result in results):
        if not is_so:
            gap += length
            continue
        drawn += f"m{gap} 0h{length}" if drawn else f"M{gap} {middle}h{length}"
        gap = 0
    return drawn


def _runs(values: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield each value with how often it comes in a row."""
    for value, group in groupby(values):
        yield value, sum(1 for _ in group)
