"""A Celery worker that beats from the loop that takes its tasks.

Start it, then give it something to do:
    celery -A celery_worker worker
    python -c "from celery_worker import greet; greet.delay('you')"
"""

import os

from celery import Celery
from celery.signals import heartbeat_sent
from redis import Redis

from cqrs_ddd_health import HealthRegistry

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery("celery_worker", broker=URL)
health = HealthRegistry.get_instance()


@heartbeat_sent.connect  # every 2 s, idle or not, in the loop itself
def beat(**_: object) -> None:
    health.heartbeat("celery_worker")


@app.task
def greet(name: str) -> None:
    Redis.from_url(URL).set(f"greeted:{name}", "yes")
