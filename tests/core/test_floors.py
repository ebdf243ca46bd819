"""The floors: a module imports only what stands below it, and no dependency that is optional."""

from __future__ import annotations

from pathlib import Path

import pytest

import cqrs_ddd_health

from .floors import imports_of, modules_of, violations

PACKAGE = "cqrs_ddd_health"
FLOORS = (
    (
        "greenlets",
        "uwsgi",
        "lazily",
        "errors",
        "names",
        "texts",
        "details",
        "strict",
        "models",
        "options",
        "evaluation",
        "outcomes",
        "transitions",
        "history",
        "protocols",
        "wire",
        "environment",
        "forks",
        "readers",
        "settings",
        "openapi",
        "schema",
    ),
    (
        "sigterm",
        "tasks",
        "endings",
        "threads",
        "owner_loop",
        "per_loop",
        "pulse",
        "tallies",
        "clocks",
        "flights",
        "judging",
        "runner",
        "listeners",
        "checks.callable",
        "checks.libraries",
        "checks.writability",
        "checks.database",
        "checks.redis",
        "checks.round_trips",
        "checks.broker",
        "checks.tcp",
        "checks.mqtt",
        "checks.broker_clients",
        "checks.disk",
        "checks.event_loop",
        "checks.memory",
        "checks.migrations",
        "checks.pool",
        "checks.http",
        "checks.connected",
        "checks.urls",
        "checks.argument_values",
        "checks.mysql_tls",
        "checks.driver_arguments",
        "checks.redis_clients",
        "checks",
        "checks.from_url",
        "heartbeats.rows",
        "heartbeats.memory",
        "heartbeats.fleet",
        "heartbeats.reader",
        "heartbeats.refusals",
        "heartbeats.publisher",
        "heartbeats.shared",
        "heartbeats.workers",
        "heartbeats.sql_reads",
        "heartbeats.sql_statements",
        "heartbeats.sql_connections",
        "heartbeats.sql",
        "heartbeats.redis",
        "heartbeats.from_url",
        "heartbeats",
    ),
    (
        "catalog",
        "configured",
        "compat",
        "refresh",
        "reporting",
        "engine",
        "measurements",
        "instances",
        "beating",
        "registry",
        "hooks",
    ),
    (
        "draining",
        "exposure",
        "collector",
        "terminal",
        "deploy",
        "deploy.values",
        "deploy.panels",
        "deploy.dashboard",
        "deploy.rendering",
        "exporting",
        "web",
        "web.health_json",
        "web.formats",
        "web.sparkline",
        "web.page",
        "web.answers",
        "web.scope",
        "web.reports",
        "web.authorization",
        "web.responder",
        "web.metrics",
        "web.asgi",
        "web.fastapi",
        "web.http1",
        "background_server",
        "health_server",
        "prometheus",
        "heartbeat_file",
        "demo",
        "server",
        "explanation",
        "table",
        "probe",
        "choosing",
        "cli",
        "testing",
        "",  # the package itself, which names things of every floor
    ),
)
OPTIONAL = {
    "sqlalchemy": (
        "checks.database",
        "checks.driver_arguments",
        "checks.from_url",
        "checks.migrations",
        "heartbeats.sql_connections",
        "heartbeats.sql_reads",
        "heartbeats.sql_statements",
        "heartbeats.sql",
    ),
    "redis": ("checks.redis_clients",),
    "fastapi": ("web.fastapi",),
    "starlette": ("web.fastapi",),
    "prometheus_client": ("collector", "prometheus"),
    "uvicorn": (),
    "aio_pika": (),
    "aiormq": (),
    "nats": (),
    "aiomqtt": (),
    "aiokafka": (),
    "psutil": ("checks.memory",),
    "alembic": ("checks.migrations",),
}


def modules() -> dict[str, str]:
    return modules_of(Path(cqrs_ddd_health.__file__).parent)


def test_every_import_goes_down() -> None:
    assert violations(modules(), FLOORS, OPTIONAL, PACKAGE) == []


def test_the_checker_sees_the_imports_that_are_there() -> None:
    found = set(imports_of("registry", modules(), PACKAGE))
    assert {"cqrs_ddd_health.engine", "cqrs_ddd_health.checks.callable", "asyncio"} <= found
    assert "cqrs_ddd_health.protocols" in found  # for type checkers only
    assert "cqrs_ddd_health.demo" in set(imports_of("cli", modules(), PACKAGE))  # in a function


@pytest.mark.parametrize(
    ("module", "line", "violation"),
    [
        ("models", "from .registry import HealthRegistry", "models imports registry"),
        ("models", "from . import registry", "models imports registry"),
        ("models", "import cqrs_ddd_health.registry", "models imports registry"),
        ("models", "def f() -> None:\n    from .options import A", "models imports options"),
        ("models", "if TYPE_CHECKING:\n    from .web import asgi", "models imports web.asgi"),
        (
            "checks.disk",
            "from cqrs_ddd_health.catalog import Catalog",
            "checks.disk imports catalog",
        ),
        ("checks.redis", "from .disk import A", "checks.redis imports checks.disk"),
        ("checks.redis", "from ..registry import A", "checks.redis imports registry"),
        ("compat", "from .registry import A", "compat imports registry"),
        ("compat", "import cqrs_ddd_health", "compat imports ,"),
        ("web.formats", "from . import asgi", "web.formats imports web.asgi"),
        ("checks.redis", "import redis.asyncio", "checks.redis imports redis"),
        ("registry", "def f() -> None:\n    import uvicorn", "registry imports uvicorn"),
        ("unheard_of", "", "unheard_of stands on no floor"),
    ],
)
def test_a_broken_example_is_found(module: str, line: str, violation: str) -> None:
    broken = modules()
    broken[module] = f"{broken.get(module, '')}\n{line}\n"
    found = violations(broken, FLOORS, OPTIONAL, PACKAGE)
    assert [what for what in found if what.startswith(violation)]


def test_a_module_that_is_gone_is_found() -> None:
    broken = modules()
    del broken["schema"]
    assert violations(broken, FLOORS, OPTIONAL, PACKAGE) == ["schema is not there"]
