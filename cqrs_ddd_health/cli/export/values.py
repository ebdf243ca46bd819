"""What can be filled into the files to deploy: names, ports, and times that follow the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from cqrs_ddd_health.config.settings import HealthSettings
from cqrs_ddd_health.domain.options import CheckOptions
from cqrs_ddd_health.engine.tallies import BOUNDS
from cqrs_ddd_health.errors import InvalidOptionError

__all__ = ["DeployValues"]

# Each of these may stand in YAML, JSON and PromQL as it is: a value is never escaped.
Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A name that DNS takes (RFC 1123), and so Kubernetes and Compose."""
Port = Annotated[int, Field(ge=1, le=65_535)]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$")]
"""As Prometheus writes it, with one unit."""
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Replicas = Annotated[int, Field(ge=1, le=1_000)]
Module = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
]
Target = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[0-9]{1,5}$")]
Count = Annotated[int, Field(ge=1, le=1_000)]
Directory = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]{1,254}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:/_-]{1,250}$")]
Mail = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+_-]{1,64}@[A-Za-z0-9.-]{1,253}$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[#@][a-z0-9._-]{1,80}$")]
TensOfSeconds = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}(0s|m|h)$")]
"""A duration as Grafana takes one: its scheduler of alerts ticks every ten seconds."""
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9._/:@-]{0,254}$")]

_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class DeployValues(BaseModel, frozen=True):
    """The values of the templates; each is one `--set NAME=VALUE`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    app: Label = "cqrs-ddd-app"
    """The name of the service, and of Prometheus' job for it."""
    target: Target = "host.docker.internal:9000"
    """Where Prometheus finds its metrics."""
    scrape_interval: Duration = "15s"
    evaluation_interval: Duration = "30s"
    """How often alerts are evaluated; what they wait for is counted in these."""
    drain_seconds: Delay = 5.0
    """How long ready is 503 before the server gets SIGTERM."""
    namespace: Label = "default"
    """Of Kubernetes, as the next ones are."""
    image: Image = "cqrs-ddd-app:1.0.0"
    replicas: Replicas = 2
    worker_replicas: Replicas = 1
    worker_module: Module = "worker"
    """What `python -m` runs as the worker."""
    port: Port = 8000
    metrics_port: Port = 9000
    startup_path: Literal["/health/startup", "/health/ready"] = "/health/startup"
    """The latter keeps a pod from starting while a dependency is down, and restarts it for that."""
    prestop_seconds: Annotated[int, Field(ge=1, le=3_600)] = 5
    """How long until no Service sends anything to a pod that ends."""
    store_url_from: Label = "cqrs-health"
    """The Secret with the URL of the heartbeat store."""
    scraped: Literal["demo", "host"] = "demo"
    """What the target is in Compose: the demo service, or what runs on the host."""
    demo_from: Literal["checkout", "index"] = "checkout"
    """Where the demo's image has this library from: the directory above, or pip's index."""
    demo_port: Port = 9000
    prometheus_port: Port = 9090
    alertmanager_port: Port = 9093
    grafana_port: Port = 3000
    loki_port: Port = 3100
    jaeger_port: Port = 16_686
    heartbeat_timeout_seconds: Seconds = 60.0
    """After so long a worker is stale; alerts wait for twice that."""
    check_timeout_seconds: Seconds = 5.0
    check_interval_seconds: Seconds = 30.0
    """The longest that any check waits for its next turn; most do while they are down."""
    trend_window: Duration = "15m"
    """Over how long changes of readiness are counted, and slow runs of checks."""
    flapping_changes: Count = 4
    alertmanager: Target = "alertmanager:9093"
    """Where Prometheus finds it."""
    prometheus_url: Url = "http://prometheus:9090"
    """Where Grafana finds it, as the next two."""
    loki_url: Url = "http://loki:3100"
    jaeger_url: Url = "http://jaeger:16686"
    grafana_interval: TensOfSeconds = "30s"
    """How often Grafana evaluates its own alerts."""
    group_wait: Duration = "30s"
    group_interval: Duration = "5m"
    repeat_interval: Duration = "4h"
    secrets_dir: Directory = "/run/secrets"
    """Where Alertmanager and Grafana find their secrets, a file each."""
    slack_channel: Channel = "#alerts"
    pagerduty_url: Url = "https://events.pagerduty.com/v2/enqueue"
    smtp_host: Target = "smtp.example.org:587"
    mail_from: Mail = "alerts@example.org"
    mail_to: Mail = "on-call@example.org"

    @classmethod
    def of(cls, settings: HealthSettings, given: Sequence[str] = ()) -> DeployValues:
        """Return the values that follow from the settings, but for those that are given.

        `given` are "name=value" each.

        Raises:
            InvalidOptionError: if a name is unknown, or a value is not what its name says.
        """
        values: dict[str, object] = {
            "drain_seconds": settings.drain_seconds,
            "heartbeat_timeout_seconds": settings.heartbeat_timeout_seconds,
            "check_timeout_seconds": settings.check_timeout_seconds,
            "check_interval_seconds": _longest_interval(settings),
        }
        for each in given:
            name, equals, value = each.partition("=")
            if not equals:
                raise InvalidOptionError(f"a value is given as NAME=VALUE, got {each!r}")
            if name not in cls.model_fields:
                raise InvalidOptionError(_unknown(name, tuple(cls.model_fields)))
            values[name] = value
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidOptionError("; ".join(map(_refusal, error.errors()))) from None

    @property
    def _in_compose(self) -> Mapping[str, str]:
        host, _, port = self.target.partition(":")
        on_host = self.scraped == "host"
        from_checkout = self.demo_from == "checkout"
        return {
            "target_host": host,
            "target_port": port,
            "prometheus_hosts": '["host.docker.internal:host-gateway"]' if on_host else "[]",
            "demo_profiles": "[demo]" if on_host else "[]",
            "demo_context": ".." if from_checkout else ".",
            "demo_package": "/source" if from_checkout else "cqrs-ddd-health",
        }

    @property
    def filled(self) -> Mapping[str, str]:
        """Every value as it stands in a file."""
        turn = 1.1 * self.check_interval_seconds + self.check_timeout_seconds
        return {
            **{name: _written(value) for name, value in self},
            **self._in_compose,
            "grace_seconds": str(math.ceil(self.prestop_seconds + self.drain_seconds) + 30),
            "heartbeat_alert_seconds": _written(2 * self.heartbeat_timeout_seconds),
            "report_old_seconds": _written(2 * turn + _in_seconds(self.scrape_interval)),
            "slow_bound": str(_bound_up_to(self.check_timeout_seconds / 2)),
            "missing_for": max(self.scrape_interval, self.evaluation_interval, key=_in_seconds),
        }


def _longest_interval(settings: HealthSettings) -> float:
    every = (CheckOptions(), *settings.checks.values())
    return max(max(each.interval_seconds, each.down_interval_seconds) for each in every)


def _in_seconds(duration: Duration) -> float:
    count = duration.rstrip("mshd")
    return int(count) * _UNITS[duration.removeprefix(count)]


def _bound_up_to(seconds: float) -> float:
    """Return the largest bound of the histogram that is not above, or the smallest of all."""
    return max((bound for bound in BOUNDS if bound <= seconds), default=BOUNDS[0])


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return f"no value is called {name!r}; {hint}"


def _refusal(error: ErrorDetails) -> str:
    return f"{error['loc'][0]} cannot be {error['input']!r}: {error['msg']}"
