"""A SAQ worker that beats when it has looked for a job, from the loop that runs them.

Start it with `saq saq_worker.settings`, then give it something to do:
    python -c "import asyncio, saq_worker as w; asyncio.run(w.queue.enqueue('greet', name='you'))"
"""

import os

from saq.job import Job
from saq.queue.redis import RedisQueue

from cqrs_ddd_health import HealthRegistry

health = HealthRegistry.get_instance()


class BeatingQueue(RedisQueue):
    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:
        job = await super().dequeue(timeout, poll_interval)
        health.heartbeat("saq_worker")
        return job


async def greet(_: object, *, name: str) -> None:
    await queue.redis.set(f"greeted:{name}", "yes")


queue = BeatingQueue.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
settings = {"queue": queue, "functions": [greet], "dequeue_timeout": 1}  # 0 waits for ever
