"""A worker in a child that `multiprocessing` started, which beats until it is told to end.

`python -m tests.child_worker METHOD`, with `fork` or `spawn`. A line on stdin is how the child is
to end: `exit`, or `crash` by an exception.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection

from cqrs_ddd_health import HealthRegistry

BEAT_SECONDS = 0.02


def work(orders: Connection) -> None:
    """Beat until there is an order."""
    registry = HealthRegistry(1.0)
    while not orders.poll(BEAT_SECONDS):
        registry.heartbeat("outbox")
    if orders.recv() == "crash":
        raise LookupError("told to crash")


def main() -> None:
    multiprocessing.set_start_method(sys.argv[1])
    orders, ours = multiprocessing.Pipe()
    child = multiprocessing.Process(target=work, args=(orders,))
    child.start()
    ours.send(sys.stdin.readline().strip())
    child.join()


if __name__ == "__main__":
    main()
