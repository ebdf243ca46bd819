"""Is the message broker there: a round trip to it, or what its client says of its connection."""

from __future__ import annotations

import inspect

from cqrs_ddd_health.domain.models import CheckResult
from cqrs_ddd_health.errors import InvalidCheckError
from cqrs_ddd_health.runtime.threads import require_owner_loop, run_blocking

from .brokers.round_trips import round_trip

__all__ = ["MessageBrokerHealthCheck"]

_QUESTIONS = ("health_check", "is_connected")


class MessageBrokerHealthCheck:
    """Asks `broker_client.health_check()`, or else the broker itself, or else `is_connected`.

    The broker itself is asked where the client is one of aio-pika, nats-py, aiomqtt or aiokafka:
    for a channel that is closed again, by PING, by UNSUBSCRIBE from a topic of nobody, for the
    metadata of no topic. Nothing is published, written or created, and a client that knows that
    it is not connected is down at once.

    The client's own answer may come from an async or a sync method, a property or an attribute;
    what is sync is run on a daemon thread, a plain attribute is just read. It may be anything
    truthy or falsy, or a `CheckResult`.

    `check()` raises what the client raises; calling the check itself gives true or false.

    Raises:
        InvalidCheckError: if the client has neither, and is of no such library.
    """

    def __init__(self, broker_client: object) -> None:
        question = next((name for name in _QUESTIONS if _has(broker_client, name)), None)
        self._round_trip = None if question == "health_check" else round_trip(broker_client)
        if question is None and self._round_trip is None:
            raise InvalidCheckError(
                f"a broker client needs health_check() or is_connected(), "
                f"{type(broker_client).__name__} has neither"
            )
        self._client = broker_client
        self._question = question or ""

    @property
    def loop_bound(self) -> bool | None:
        """Whether the client belongs to an event loop; None if what it answers will tell."""
        if self._round_trip is not None:
            return True
        question: object = inspect.getattr_static(self._client, self._question, None)
        return True if inspect.iscoroutinefunction(question) else None

    async def __call__(self) -> bool:
        """Return whether the client says yes; whatever it raised is swallowed."""
        try:
            return (await self.check()).state != "down"
        except Exception:
            return False

    async def check(self) -> CheckResult:
        """Return what the broker or its client says; raises what the client raises."""
        if self._round_trip is not None:
            return await self._round_trip()
        answer = await self._ask()
        if isinstance(answer, CheckResult):
            return answer
        details = {"client": type(self._client).__name__, "asked": self._question}
        if answer:
            return CheckResult(details=details)
        return CheckResult(state="down", details=details, message=f"{self._question} says no")

    async def _ask(self) -> object:
        if isinstance(inspect.getattr_static(self._client, self._question, None), property):
            return await _settled(await run_blocking(self._read))
        value = self._read()
        if not callable(value):
            return await _settled(value)
        if inspect.iscoroutinefunction(value):
            return await _settled(value())
        return await _settled(await run_blocking(value))

    def _read(self) -> object:
        return getattr(self._client, self._question)


async def _settled(value: object) -> object:
    if inspect.isawaitable(value):
        require_owner_loop(value)
        return await value
    return value


def _has(client: object, name: str) -> bool:
    try:
        getattr(client, name)
    except AttributeError:
        return False
    except Exception:  # a property that fails now is still there to be asked later
        return True
    return True
