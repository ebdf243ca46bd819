"""A FastAPI service that tells how it is: `uvicorn examples.fastapi_service:app`, then /docs.

What it depends on is said by the environment, such as CQRS_HEALTH_CHECKS__DATABASE__URL and
CQRS_HEALTH_HEARTBEAT_STORE_URL; one check is its own. SIGTERM makes it not ready before it leaves.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from tempfile import gettempdir

from fastapi import FastAPI

from cqrs_ddd_health import HealthRegistry, drain_on_sigterm
from cqrs_ddd_health.web.fastapi import health_router

health = HealthRegistry.get_instance()
health.register_from_settings()


@health.register("temporary_files", critical=False, tags=["storage"])
def temporary_files() -> bool:
    """Whether uploads have somewhere to go."""
    return os.access(gettempdir(), os.W_OK)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Be drained before the server closes its socket."""
    with drain_on_sigterm(health):
        yield


app = FastAPI(title="Orders", lifespan=lifespan)
app.include_router(health_router(health))


@app.get("/")
async def orders() -> dict[str, str]:
    """What the service is there for."""
    return {"see": "/health/page"}
