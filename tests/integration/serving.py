"""Applications on a real uvicorn, on a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import uvicorn

from tests.core.actors import eventually_sync
from tests.core.asgi_client import Application

__all__ = ["served"]


@contextmanager
def served(app: Application) -> Generator[httpx.Client]:
    """Serve the application while the block lasts, and give a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually_sync(lambda: server.started)
            port = listener.getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
