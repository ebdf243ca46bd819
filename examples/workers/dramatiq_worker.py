"""A Dramatiq worker that beats when it has fetched: not while its threads hang and it is full.

Start it with `dramatiq dramatiq_worker:broker`, then
`python -c "from dramatiq_worker import greet; greet.send('you')"`.
"""

import os

from dramatiq import actor
from dramatiq.brokers.redis import RedisBroker

from cqrs_ddd_health import HealthRegistry


class BeatingBroker(RedisBroker):
    def do_fetch(self, queue_name: str, prefetch: int) -> list[bytes]:
        messages: list[bytes] = self._dispatch("fetch")(queue_name, prefetch)
        if not queue_name.endswith(".DQ"):  # of the delayed ones
            HealthRegistry.get_instance().heartbeat("dramatiq_worker")
        return messages


broker = BeatingBroker(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))


@actor(broker=broker)
def greet(name: str) -> None:
    broker.client.set(f"greeted:{name}", "yes")
