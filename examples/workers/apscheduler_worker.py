"""A scheduler of APScheduler 3 that beats when it has looked for jobs that are due.

Start it with `python apscheduler_worker.py`: it greets you every second.
"""

import os
import sys
from signal import SIGTERM, signal

from apscheduler.schedulers.blocking import BlockingScheduler
from redis import Redis

from cqrs_ddd_health import HealthRegistry

redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
health = HealthRegistry.get_instance()


class BeatingScheduler(BlockingScheduler):
    def _process_jobs(self) -> float:
        wait: float | None = super()._process_jobs()
        health.heartbeat("apscheduler_worker")
        return 1.0 if wait is None else min(wait, 1.0)  # to beat while nothing is due for hours


signal(SIGTERM, lambda _signal, _frame: sys.exit())  # else nothing is said at its end
scheduler = BeatingScheduler()
scheduler.add_job(redis.set, "interval", ("greeted:you", "yes"), seconds=1)
scheduler.start()
