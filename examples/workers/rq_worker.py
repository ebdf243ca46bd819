"""An RQ worker that beats when it looks for a job, and while it waits for one to end.

Start it, then give it something to do:
    rq worker --url "$REDIS_URL" --worker-class rq_worker.BeatingWorker --worker-ttl 30
    python -c "import rq_worker; rq_worker.queue.enqueue('rq_worker.greet', 'you')"
"""

import os

from redis import Redis
from redis.client import Pipeline
from rq import Queue, Worker

from cqrs_ddd_health import HealthRegistry

redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
queue, health = Queue(connection=redis), HealthRegistry.get_instance()


class BeatingWorker(Worker):
    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        super().heartbeat(timeout, pipeline)
        if not self.is_horse:  # the process of one job, which RQ kills when it takes too long
            pause = max(self.dequeue_timeout, self.job_monitoring_interval)
            health.heartbeat("rq_worker", pause + health.settings.heartbeat_timeout_seconds)


def greet(name: str) -> None:
    redis.set(f"greeted:{name}", "yes")
