"""Every library that the package imports is one that it says it needs, lazy imports included."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

import cqrs_ddd_health

from .imports import modules_of
from .test_layers import OPTIONAL

PACKAGE = "cqrs_ddd_health"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
DISTRIBUTIONS = {"dotenv": "python-dotenv", "nats": "nats-py"}
"""What is not called as what is imported from it is."""

BROUGHT_BY_THE_APPLICATION = {
    "cqrs_ddd_core",  # the toolkit that imports its hooks from here; it depends on us
    "gevent",  # looked up among what the application has imported, never imported
    "opentelemetry",  # the same
    "uwsgi",  # the server that the application runs in
}
LOOKED_UP = {"import_module", "find_spec", "__import__"}


def project() -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", tomllib.loads(PROJECT.read_text("utf-8"))["project"])


def distribution_of(module: str) -> str:
    return DISTRIBUTIONS.get(module, module).replace("_", "-").lower()


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~;\s]", line, maxsplit=1)[0].lower() for line in requirements}


def imports(source: str) -> Iterator[str]:
    """Return the full name of each module that a source imports or looks up by its name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args:
            yield from looked_up(node)


def looked_up(call: ast.Call) -> Iterator[str]:
    """Return the module that `import_module("...")` or `sys.modules.get("...")` names."""
    function, first = ast.unparse(call.func), call.args[0]
    is_look_up = function.rpartition(".")[2] in LOOKED_UP or function == "sys.modules.get"
    if is_look_up and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value


def foreign(source: str) -> set[str]:
    """Return the names by which a source imports other libraries."""
    tops = {name.partition(".")[0] for name in imports(source)}
    return {top for top in tops if top not in sys.stdlib_module_names} - {"", PACKAGE}


def all_foreign() -> set[str]:
    sources = modules_of(Path(cqrs_ddd_health.__file__).parent).values()
    return set[str]().union(*map(foreign, sources)) - BROUGHT_BY_THE_APPLICATION


def test_what_every_user_imports_is_a_dependency() -> None:
    needed = {distribution_of(module) for module in all_foreign() - OPTIONAL.keys()}
    assert needed == named(project()["dependencies"])


def test_what_is_optional_is_in_an_extra() -> None:
    extras: Mapping[str, list[str]] = project()["optional-dependencies"]
    offered = set[str]().union(*(named(lines) for lines in extras.values()))
    needed = {distribution_of(module) for module in all_foreign() & OPTIONAL.keys()}
    assert needed - offered == set()


def test_every_requirement_has_a_lowest_version() -> None:
    extras: Mapping[str, list[str]] = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *(line for lines in extras.values() for line in lines)]
    unbounded = [line for line in lines if not line.startswith("cqrs-ddd-health[")]
    assert [line for line in unbounded if ">=" not in line] == []


@pytest.mark.parametrize(
    "line",
    [
        "import other",
        "import other.part as part",
        "from other.part import name",
        "def f() -> None:\n    from other import name",
        "if TYPE_CHECKING:\n    import other",
        "import_module('other.part')",
        "importlib.import_module('other')",
        "importlib.util.find_spec('other')",
        "__import__('other')",
        "sys.modules.get('other.part')",
    ],
)
def test_an_import_is_found(line: str) -> None:
    assert foreign(line) == {"other"}


@pytest.mark.parametrize(
    "line",
    [
        "import os.path",
        "from . import other",
        "from .other import name",
        "import cqrs_ddd_health.other",
        "import_module(name)",
        "import_module('.other', package)",
        "variables.get('other')",
    ],
)
def test_what_is_no_import_of_another_library_is_not(line: str) -> None:
    assert foreign(line) == set()
