"""What users may import: all of it is there, typed, and costs nothing until it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cqrs_ddd_health
from cqrs_ddd_health import checks

from .actors import answer_of_script
from .imports import modules_of

PACKAGE = Path(cqrs_ddd_health.__file__).parent
CONSUMER = Path(__file__).parents[1] / "typing" / "consumer.py"
OPTIONAL = [
    "alembic",
    "fastapi",
    "prometheus_client",
    "psutil",
    "redis",
    "sqlalchemy",
    "starlette",
    "uvicorn",
]
NEEDS_EXTRAS = {
    "prometheus",
    "web.collector",
    "web.fastapi",
    "heartbeats.stores.sql.connection",
    "heartbeats.stores.sql.reads",
    "heartbeats.stores.sql.statements",
}
ROOMS = {
    ".".join(file.parent.relative_to(PACKAGE).parts) for file in PACKAGE.rglob("*/__init__.py")
} - {"checks", "cli"}
LAZY = [cqrs_ddd_health, checks]
MODULES = {name: text for name, text in modules_of(PACKAGE).items() if name not in NEEDS_EXTRAS}


def imported(name: str) -> ModuleType:
    return importlib.import_module(f"cqrs_ddd_health.{name}".rstrip("."))


def exported(text: str) -> list[str] | None:
    """Return the `__all__` that a source says, or None if it says none."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(text: str) -> set[str]:
    """Return the public functions and classes that a source defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in ast.parse(text).body if isinstance(node, kinds)]
    return {node.name for node in nodes if not node.name.startswith("_")}


@pytest.mark.parametrize("module", modules_of(PACKAGE))
def test_every_module_says_what_is_public(module: str) -> None:
    text = modules_of(PACKAGE)[module]
    names = exported(text)
    if module.endswith("__main__"):
        assert names is None
        return
    if module in ROOMS:
        assert names is None  # nothing but its docstring
        assert len(ast.parse(text).body) == 1
        return
    assert names is not None
    assert len(names) == len(set(names))
    assert defined(text) <= set(names)


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_there(module: str) -> None:
    for name in exported(MODULES[module]) or ():
        assert hasattr(imported(module), name), name


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_described(module: str) -> None:
    assert imported(module).__doc__
    for name in defined(MODULES[module]):
        assert getattr(imported(module), name).__doc__, name


@pytest.mark.parametrize("name", cqrs_ddd_health.__all__)
def test_every_name_of_the_package_resolves(name: str) -> None:
    assert getattr(cqrs_ddd_health, name) is not None
    assert getattr(cqrs_ddd_health, name) is getattr(cqrs_ddd_health, name)


@pytest.mark.parametrize("package", LAZY)
def test_every_name_is_imported_for_type_checkers_too(package: ModuleType) -> None:
    text = MODULES[package.__name__.removeprefix("cqrs_ddd_health").removeprefix(".")]
    seen = {
        name.asname
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname
    }
    assert seen == set(package.__all__) - {"__version__"}


@pytest.mark.parametrize("package", LAZY)
def test_every_name_of_a_lazy_package_is_listed(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", LAZY)
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'Nope'"):
        getattr(package, "Nope")  # noqa: B009 - the name is what is tested


def test_the_contracts_import_paths() -> None:
    from cqrs_ddd_health.checks import DatabaseHealthCheck
    from cqrs_ddd_health.registry import HealthRegistry

    assert DatabaseHealthCheck is cqrs_ddd_health.DatabaseHealthCheck
    assert HealthRegistry is cqrs_ddd_health.HealthRegistry


def modules_after(code: str) -> set[str]:
    """Return the modules of a new interpreter after it ran `code`."""
    shown = f"{code}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", shown], check=True, capture_output=True, text=True, timeout=60
    )
    return set(run.stdout.split())


def test_the_import_alone_imports_nothing() -> None:
    before = modules_after("")
    after = modules_after("import cqrs_ddd_health")
    assert {"pydantic", "pydantic_settings", "asyncio"}.isdisjoint(after - before)


def test_a_registry_imports_no_check_that_nobody_registered() -> None:
    kinds = "broker", "database", "disk", "event_loop", "http", "memory", "migrations", "redis"
    after = modules_after("from cqrs_ddd_health import HealthRegistry; HealthRegistry()")
    assert after.isdisjoint(f"cqrs_ddd_health.checks.{kind}" for kind in kinds)


def test_a_registry_imports_no_optional_dependency() -> None:
    after = modules_after("from cqrs_ddd_health import HealthRegistry; HealthRegistry()")
    assert "pydantic" in after
    assert after.isdisjoint(OPTIONAL)


def test_the_checks_import_no_client() -> None:
    code = "from cqrs_ddd_health.checks import *; from cqrs_ddd_health.web.asgi import *"
    assert modules_after(code).isdisjoint(OPTIONAL)


@pytest.mark.parametrize("name", cqrs_ddd_health.__all__)
def test_the_typed_consumer_uses_every_name(name: str) -> None:
    nodes = ast.walk(ast.parse(CONSUMER.read_text("utf-8")))
    used = [node.id for node in nodes if isinstance(node, ast.Name)]
    assert name in used


def test_the_typed_consumer_ignores_nothing_and_runs() -> None:
    assert "ignore" not in CONSUMER.read_text("utf-8").partition('"""\n\n')[2]
    assert importlib.import_module("tests.typing.consumer").everything


PUBLIC_PATHS = {
    "checks": "DatabaseHealthCheck",
    "errors": "HealthError",
    "hooks": "register_heartbeat_hook",
    "registry": "HealthRegistry",
    "testing": "clean_registry",
    "web.asgi": "health_app",
}


@pytest.mark.parametrize("path", PUBLIC_PATHS)
def test_the_paths_that_users_import_from_are_there(path: str) -> None:
    assert hasattr(imported(path), PUBLIC_PATHS[path])


@pytest.mark.parametrize("module", ["cqrs_ddd_health", "cqrs_ddd_health.cli"])
def test_the_command_runs_where_no_script_is_installed(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"cqrs-health {cqrs_ddd_health.__version__}\n"


def test_the_entry_point_is_still_a_function_once_its_module_was_imported() -> None:
    source = """
import cqrs_ddd_health.cli.parser
from cqrs_ddd_health.cli import main
print(callable(main))
"""
    assert answer_of_script(source) == "True"
