"""The rooms: a module imports what lies in layers below its own, and no optional dependency."""

from __future__ import annotations

from pathlib import Path

import pytest

import cqrs_ddd_health

from .imports import circle, imports_of, layer_violations, modules_of, outside_violations

PACKAGE = "cqrs_ddd_health"
LAYERS = (
    ("errors",),
    ("domain", "runtime"),
    ("clients", "config"),
    ("checks", "heartbeats"),
    ("engine",),
    ("registry",),
    ("hooks", "testing", "web"),
    ("", "prometheus"),  # the package itself names things of every layer below
    ("cli",),
    ("__main__",),
)
OPTIONAL = {
    "sqlalchemy": (
        "checks.database",
        "clients.driver_arguments",
        "checks.from_url",
        "checks.migrations",
        "heartbeats.stores.sql.connection",
        "heartbeats.stores.sql.reads",
        "heartbeats.stores.sql.statements",
        "heartbeats.stores.sql.store",
    ),
    "redis": ("clients.redis",),
    "fastapi": ("web.fastapi",),
    "starlette": ("web.fastapi",),
    "prometheus_client": ("web.collector", "prometheus"),
    "uvicorn": (),
    "aio_pika": (),
    "aiormq": (),
    "nats": (),
    "aiomqtt": (),
    "aiokafka": (),
    "psutil": ("checks.memory",),
    "alembic": ("checks.migrations",),
}
RESERVED = {
    "cqrs_ddd_health.runtime.sigterm": ("engine.reporter", "web.server.draining"),
    "pydantic_settings": ("config.settings", "config.sources", "domain.options"),
}
"""What else only these may import."""


def modules() -> dict[str, str]:
    return modules_of(Path(cqrs_ddd_health.__file__).parent)


def test_every_import_goes_down() -> None:
    assert layer_violations(modules(), LAYERS, PACKAGE) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(modules(), PACKAGE) == []


def test_libraries_and_signals_are_imported_where_they_may_be() -> None:
    assert outside_violations(modules(), {**OPTIONAL, **RESERVED}, PACKAGE) == []


def test_the_checker_sees_the_imports_that_are_there() -> None:
    found = set(imports_of("registry", modules(), PACKAGE))
    assert {"cqrs_ddd_health.engine.wiring", "cqrs_ddd_health.checks.callable", "asyncio"} <= found
    assert "cqrs_ddd_health.domain.protocols" in found  # for type checkers only
    parser = set(imports_of("cli.parser", modules(), PACKAGE))
    assert "cqrs_ddd_health.cli.demo" in parser  # in a function


@pytest.mark.parametrize(
    ("module", "line", "violation"),
    [
        ("domain.models", "from ..registry import A", "domain.models imports registry"),
        ("domain.models", "from .. import registry", "domain.models imports registry"),
        ("domain.models", "import cqrs_ddd_health.registry", "domain.models imports registry"),
        (
            "domain.models",
            "def f() -> None:\n    from cqrs_ddd_health.engine.runner import A",
            "domain.models imports engine.runner",
        ),
        (
            "domain.models",
            "if TYPE_CHECKING:\n    from cqrs_ddd_health.web import asgi",
            "domain.models imports web.asgi",
        ),
        (
            "checks.disk",
            "from cqrs_ddd_health.heartbeats.workers import A",
            "checks.disk imports heartbeats.workers",
        ),
        ("checks.redis", "import cqrs_ddd_health", "checks.redis imports ,"),
        ("unheard_of", "", "unheard_of lies in no room"),
    ],
)
def test_a_broken_example_is_found(module: str, line: str, violation: str) -> None:
    broken = modules()
    broken[module] = f"{broken.get(module, '')}\n{line}\n"
    found = layer_violations(broken, LAYERS, PACKAGE)
    assert [what for what in found if what.startswith(violation)]


@pytest.mark.parametrize(
    ("module", "line", "violation"),
    [
        ("checks.redis", "import redis.asyncio", "checks.redis imports redis"),
        ("registry", "def f() -> None:\n    import uvicorn", "registry imports uvicorn"),
        (
            "registry",
            "from .runtime.sigterm import hold",
            "registry imports cqrs_ddd_health.runtime.sigterm",
        ),
    ],
)
def test_an_import_of_what_others_may_is_found(module: str, line: str, violation: str) -> None:
    broken = modules()
    broken[module] = f"{broken[module]}\n{line}\n"
    assert violation in outside_violations(broken, {**OPTIONAL, **RESERVED}, PACKAGE)


def test_a_circle_is_found() -> None:
    broken = modules()
    broken["domain.names"] += "\nfrom .models import A\n"
    assert {"domain.names", "domain.models"} <= set(circle(broken, PACKAGE))
