"""The libraries of others, each as its documentation says, with as many checks as ours has.

They are installed by `make bench` only, so what they are is not known to type checkers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import NamedTuple, cast

from .apps import CHECKS, App, answering

__all__ = ["PEERS", "Peer"]


class Peer(NamedTuple):
    """A library, and the path under which it answers."""

    name: str
    path: str
    app: Callable[[], App]


def _fast_healthchecks() -> App:
    fastapi, library = import_module("fastapi"), import_module("fast_healthchecks")
    functions = import_module("fast_healthchecks.checks.function")
    integration = import_module("fast_healthchecks.integrations.fastapi")
    checks = [
        functions.FunctionHealthCheck(func=answering, name=f"check {number}")
        for number in range(CHECKS)
    ]
    app = fastapi.FastAPI()
    app.include_router(integration.HealthcheckRouter(library.Probe(name="ready", checks=checks)))
    return cast("App", app)


def _fastapi_health() -> App:
    fastapi, library = import_module("fastapi"), import_module("fastapi_health")
    app = fastapi.FastAPI()
    app.add_api_route("/health", library.health([_condition(number) for number in range(CHECKS)]))
    return cast("App", app)


def _condition(number: int) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return await answering()

    condition.__name__ = f"check_{number}"  # it tells its conditions apart by their names
    return condition


def _django_health_check() -> App:
    conf, urls = import_module("django.conf"), import_module("django.urls")
    settings = {
        "ALLOWED_HOSTS": ["*"],
        "INSTALLED_APPS": ["health_check"],
        "MIDDLEWARE": ["django.middleware.common.CommonMiddleware"],  # sets Content-Length
        "ROOT_URLCONF": __name__,
        "SECRET_KEY": "none",
    }
    conf.settings.configure(**settings)
    asgi = import_module("django.core.asgi")
    app = cast("App", asgi.get_asgi_application())
    views, base = import_module("health_check.views"), import_module("health_check.base")

    async def run(_self: object) -> None:
        await answering()

    checks = [type(f"Check{number}", (base.HealthCheck,), {"run": run}) for number in range(CHECKS)]
    urlpatterns.append(urls.path("health/", views.HealthCheckView.as_view(checks=checks)))
    return app


urlpatterns: list[object] = []
"""What Django looks for in the module that it is told."""

PEERS = {
    "fast-healthchecks": Peer("fast-healthchecks", "/health/ready", _fast_healthchecks),
    "fastapi-health": Peer("fastapi-health", "/health", _fastapi_health),
    "django-health-check": Peer(
        "django-health-check", "/health/?format=json", _django_health_check
    ),
}
