"""Serves an application from a thread of its own, in a process that has no web server."""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import AbstractEventLoop
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from cqrs_ddd_health.domain.options import require_host, require_port
from cqrs_ddd_health.errors import ServerError
from cqrs_ddd_health.runtime.cancellation import PATIENCE_SECONDS, end_loop
from cqrs_ddd_health.runtime.forking import at_fork, leave_to_the_parent, notice_fork
from cqrs_ddd_health.runtime.greenlets import Handover, NoThreadsError, running_loop, start_loop
from cqrs_ddd_health.runtime.threads import own_loop, raising
from cqrs_ddd_health.runtime.uwsgi import require_threads

from .http11 import Application, Connections

if TYPE_CHECKING:
    from cqrs_ddd_health.registry import HealthRegistry

__all__ = ["BackgroundServer"]

EXIT_SECONDS = 6 * PATIENCE_SECONDS
"""How long an exit waits at the most: for flights, for clients, and for what its loop still has."""

BACKLOG = 2_048
"""How many clients may wait to be accepted, as far as the system lets them."""


class BackgroundServer:
    """Serves one application while it is entered, with `with` or `async with`.

    Entered inside a running loop, it has async checks run on that loop, where their clients live,
    and watches it. It refreshes the checks of the registry in the background meanwhile, and uses no
    client of the application on its own loop.

    Raises:
        InvalidOptionError: if the host or the port can be none.
        ServerError: when entered, if it is entered already, or nobody can listen there.
    """

    def __init__(self, registry: HealthRegistry, app: Application, host: str, port: int) -> None:
        self._registry = registry
        self._app = app
        self._host = require_host("host", host)
        self._port = require_port("port", port, least=0)
        self._lock = threading.Lock()
        self._service: _Service | None = None

    @property
    def port(self) -> int:
        """The port that it listens on.

        Raises:
            ServerError: if it is not entered.
        """
        return self._entered().address[1]

    @property
    def url(self) -> str:
        """Its address as `http://host:port`, without a slash at the end.

        Raises:
            ServerError: if it is not entered.
        """
        host, port = self._entered().address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        """Listen and answer from now on."""
        self._enter(running_loop())
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        service = self._left()
        if service is not None:
            service.stop()
            service.wait(running_loop())

    async def __aenter__(self) -> Self:
        """Do as `__enter__`."""
        self._enter(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it while the loop goes on."""
        service = self._left()
        if service is not None:
            service.stop()
            await service.wait_on_loop()

    def begin_process(self) -> None:
        """Leave it to the parent, in a forked child: only there is its thread."""
        self._lock = threading.Lock()
        service, self._service = self._service, None
        if service is not None:
            service.abandon()
            leave_to_the_parent(service)

    def _enter(self, owner: AbstractEventLoop | None) -> None:
        notice_fork()
        with self._lock:
            if self._service is not None:
                raise ServerError(f"this server is entered already, it answers at {self.url}")
            service = _Service(self._registry, self._app, (self._host, self._port), owner)
            service.start()
            self._service = service
        _entered.add(self)

    def _entered(self) -> _Service:
        notice_fork()
        service = self._service
        if service is None:
            raise ServerError("this server listens nowhere: use it in a `with` block")
        return service

    def _left(self) -> _Service | None:
        notice_fork()
        with self._lock:
            service, self._service = self._service, None
        _entered.discard(self)
        return service


_entered: set[BackgroundServer] = set()


def _leave_to_the_parent() -> None:
    for server in list(_entered):
        server.begin_process()
    _entered.clear()


at_fork(_leave_to_the_parent)


class _Service:
    """A thread with a loop that answers on one listening socket, from its start to its stop."""

    def __init__(
        self,
        registry: HealthRegistry,
        app: Application,
        address: tuple[str, int],
        owner: AbstractEventLoop | None,
    ) -> None:
        self.address: tuple[str, int] = address
        self._registry = registry
        self._app = app
        self._owner = owner
        self._leaving = asyncio.Event()
        self._silent: Handover[None] = Handover()  # nobody is answered any more
        self._started: Handover[None] = Handover()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # whoever waits for it cannot cancel it

    def start(self) -> None:
        """Return once it answers, or raise why it does not."""
        try:
            require_threads()
            self._loop, self._thread = start_loop(own_loop, self._run, "cqrs-health-server")
        except NoThreadsError as error:
            raise ServerError(str(error)) from None
        self._started.take()  # waits for nobody: nothing that it does takes time

    def stop(self) -> None:
        """Have it end. Does not wait for that."""
        with suppress(RuntimeError):  # its loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._leaving.set)

    def wait(self, here: AbstractEventLoop | None) -> None:
        """Block until it has ended, or, on the loop that it needs for that, until it is silent."""
        if here is not None and here is self._owner:
            self._silent.wait(PATIENCE_SECONDS)
        else:
            self._thread.join(EXIT_SECONDS)

    async def wait_on_loop(self) -> None:
        """Wait until it has ended."""
        ended = asyncio.wrap_future(self._ended)
        try:
            await asyncio.wait({ended}, timeout=EXIT_SECONDS)
        finally:
            ended.cancel()
        if self._ended.done():
            self._thread.join()  # it is at its last line

    def abandon(self) -> None:
        """Close the socket, in a forked child: the parent's stays open."""
        self._listener.close()

    def _run(self, loop: AbstractEventLoop) -> None:
        try:
            with _listening(*self.address) as self._listener:
                loop.run_until_complete(self._serve(loop))
        except BaseException as error:
            if self._started.wait(0):
                raise
            self._started.give(raising(error))
        finally:
            end_loop(loop)
            self._ended.set_result(None)

    async def _serve(self, loop: AbstractEventLoop) -> None:
        host, port, *_ = self._listener.getsockname()
        self.address = host, port
        async with self._registry.running(owner=self._owner):
            connections = Connections(self._app)
            server = await loop.create_server(connections.connection, sock=self._listener)
            self._started.give(lambda: None)
            await self._leaving.wait()
            server.close()
            await connections.aclose()
            self._silent.give(lambda: None)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ServerError(
            f"cannot listen on {host}:{port}: {why}; choose another port, 0 for any that is free"
        ) from error
