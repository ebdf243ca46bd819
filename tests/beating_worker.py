"""A worker as a process of its own: it beats until it is told otherwise.

`python -m tests.beating_worker TIMEOUT NAME [INSTANCE]`. A line on stdin is what it does next:
`stop` beating, beat again with `go`, `exit`, or `crash` by an exception. With `WORKERS=50` it is
that many workers, NAME and a number each.
"""

from __future__ import annotations

import os
import sys
import threading

from cqrs_ddd_health import HealthRegistry

BEAT_SECONDS = 0.02


def main() -> None:
    timeout, name, *instances = sys.argv[1:]
    instance = instances[0] if instances else None
    registry = HealthRegistry(float(timeout))
    many = int(os.environ.get("WORKERS", "0"))
    workers = [f"{name} {number}" for number in range(many)] or [name]
    beating, ended = threading.Event(), threading.Event()
    beating.set()

    def beat() -> None:
        while not ended.is_set():
            beating.wait()
            for worker in workers:
                registry.heartbeat(worker, instance=instance)
            ended.wait(BEAT_SECONDS)  # libfaketime breaks time.sleep

    threading.Thread(target=beat, daemon=True).start()
    for line in sys.stdin:
        what = line.strip()
        if what == "stop":
            beating.clear()
        elif what == "go":
            beating.set()
        elif what == "crash":
            raise LookupError("told to crash")
        else:
            break


if __name__ == "__main__":
    main()
