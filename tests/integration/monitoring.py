"""Real monitoring for tests: Prometheus, Alertmanager, their tools, and who is notified.

They are Debian's packages `prometheus` and `prometheus-alertmanager`, and listen on 127.0.0.1 only.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.cli.export.dispatch import export
from cqrs_ddd_health.prometheus import start_metrics_server
from tests.processes import LOCALHOST, OwnServer
from tests.service import Service, bare_environment


def installed(name: str) -> str:
    """Return the path of a binary of one of the packages."""
    path = Path("/usr/bin") / name
    assert path.exists(), "apt-get install prometheus prometheus-alertmanager"
    return str(path)


def run_tool(
    name: str, *arguments: str, directory: Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run `promtool` or `amtool` in a directory until it ends."""
    return subprocess.run(
        [installed(name), *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def export_monitoring(directory: Path, *given: str) -> None:
    """Write all that Prometheus and Alertmanager are configured by."""
    for kind in ("prometheus", "alerts", "alertmanager"):
        export(kind, str(directory), given)


class _MonitoringServer(OwnServer):
    """One that is asked by HTTP."""

    api = "/api/v1"

    def __init__(self, config: Path) -> None:
        super().__init__()
        self.config = config
        root = f"http://{LOCALHOST}:{self.port}"
        self._http = httpx.Client(base_url=root, trust_env=False, timeout=10)

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """Return what it answers, which must be no error."""
        answer = self._http.get(f"{self.api}{path}", params=query)
        assert answer.is_success, answer.text
        return answer.json()

    def close(self) -> None:
        self._http.close()
        super().close()


class Prometheus(_MonitoringServer):
    """A real one, with its data in a directory of its own."""

    def command(self) -> list[str]:
        return [
            installed("prometheus"),
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={LOCALHOST}:{self.port}",
        ]

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer."""
        return self.ask(path, **query)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series of an instant query, or of a range of time until now."""
        found: list[Any] = self.get("/query", query=expression)["result"]
        return found

    def values(self, expression: str, label: str) -> dict[str, float]:
        """Return the values of an instant query by one label."""
        found = self.query(expression)
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

    def alerts(self) -> dict[str, str]:
        """Return the state of each alert that is pending or firing, by its name."""
        found = self.get("/alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}

    @classmethod
    def of_ports(cls, directory: Path, **ports: int) -> Self:
        """Scrape these ports of this host each second; each is a job."""
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"{LOCALHOST}:{port}"]}]}
            for job, port in ports.items()
        ]
        config = directory / "prometheus.yml"
        config.write_text(
            json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}), "utf-8"
        )
        return cls(config)


@contextmanager
def watched_demo(
    registry: HealthRegistry, directory: Path
) -> Generator[tuple[Prometheus, Service]]:
    """Have the demo scraped as the job "service", and this registry as the job "worker"."""
    environment = bare_environment(directory)
    with (
        Service.of_cli("--demo", environment=environment, directory=directory) as service,
        start_metrics_server(registry, 0) as server,
        Prometheus.of_ports(directory, service=service.port, worker=server.port) as prometheus,
    ):
        yield prometheus, service


class Alertmanager(_MonitoringServer):
    """A real one, without a cluster."""

    api = "/api/v2"

    def command(self) -> list[str]:
        return [
            installed("prometheus-alertmanager"),
            f"--config.file={self.config}",
            f"--storage.path={self.directory / 'data'}",
            f"--web.listen-address={LOCALHOST}:{self.port}",
            "--cluster.listen-address=",
        ]

    def post(self, *alerts: Mapping[str, str]) -> None:
        """Tell it of alerts that fire, by their labels."""
        answer = self._http.post(f"{self.api}/alerts", json=[{"labels": each} for each in alerts])
        assert answer.is_success, answer.text

    def states(self) -> dict[str, str]:
        """Return the state of each alert, "active" or "suppressed", by its name."""
        found = self.ask("/alerts")
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in found}


class Receiver:
    """Stands for Slack and PagerDuty: takes what is posted, and keeps it by its path."""

    def __init__(self) -> None:
        self.posted: dict[str, list[Any]] = {}
        self._server = ThreadingHTTPServer((LOCALHOST, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._server.server_port}"

    def got(self, path: str) -> list[Any]:
        """Return what was posted there so far."""
        return list(self.posted.get(path, ()))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posted.setdefault(self.path, []).append(json.loads(body))
                self.send_response(202)
                self.end_headers()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
