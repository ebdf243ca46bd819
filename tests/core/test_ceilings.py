"""How often the rules may be bent: each exception is counted, and the counts only go down."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

import cqrs_ddd_health

PACKAGE = Path(cqrs_ddd_health.__file__).parent
TESTS = Path(__file__).parents[1]
IGNORE, NO_COVER, NOQA = r"#\s*(type|pyright):", r"#\s*pragma:\s*no\s+(cover|branch)", r"#\s*noqa"
SKIP = re.compile(r"\b(skip|skipif|skipUnless|SkipTest|xfail|importorskip)\(|mark\.(skip|xfail)")
CEILINGS = {
    (PACKAGE, IGNORE): 2,
    (PACKAGE, NO_COVER): 0,
    (PACKAGE, NOQA): 7,
    (TESTS, IGNORE): 12,
    (TESTS, NO_COVER): 0,
    (TESTS, NOQA): 15,
}


def comments(file: Path) -> list[str]:
    """Return the comments of a source; what a string says of them is none."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def found(root: Path, pattern: str) -> list[str]:
    return [
        f"{file.relative_to(root)}: {comment}"
        for file in sorted(root.rglob("*.py"))
        for comment in comments(file)
        if re.search(pattern, comment)
    ]


@pytest.mark.parametrize(("root", "pattern"), CEILINGS, ids=lambda value: str(value)[-20:])
def test_the_exceptions_stay_below_their_ceiling(root: Path, pattern: str) -> None:
    exceptions = found(root, pattern)
    assert len(exceptions) <= CEILINGS[root, pattern], "\n".join(exceptions)


def test_every_ignored_type_names_its_error() -> None:
    for comment in [*found(PACKAGE, IGNORE), *found(TESTS, IGNORE)]:
        assert re.search(r"ignore\[[a-zA-Z, -]+\]", comment), comment


def test_every_noqa_names_its_rule() -> None:
    for comment in [*found(PACKAGE, NOQA), *found(TESTS, NOQA)]:
        assert re.search(r"noqa: [A-Z]+[0-9]+", comment), comment


def test_no_test_is_skipped() -> None:
    this = Path(__file__)
    skipping = [
        f"{file.name}: {line.strip()}"
        for file in sorted(TESTS.rglob("*.py"))
        for line in file.read_text("utf-8").splitlines()
        if file != this and SKIP.search(line)
    ]
    assert skipping == []
