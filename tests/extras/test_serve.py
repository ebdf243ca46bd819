"""`cqrs-health serve` and `serve --demo`, run as a new user runs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.processes import LOCALHOST, wait_until
from tests.service import Service, bare_environment

SCHEMAS = Path(__file__).parents[2] / "schemas"
DEMO_COMPONENTS = {"database", "disk", "demo_worker"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def demo(home: Path) -> Iterator[Service]:
    environment = bare_environment(home)
    with Service.of_cli("--demo", environment=environment, directory=home) as service:
        yield service


@pytest.fixture
def file(demo: Service, home: Path) -> Iterator[Path]:
    """The demo's database file; back in its place after the test, and the service up."""
    file = home / ".local" / "state" / "cqrs-health" / "demo.sqlite3"
    away = file.with_suffix(".away")
    yield file
    if away.exists():
        away.rename(file)
    assert wait_until(lambda: demo.get("/health").code == 200)


def problems(body: bytes, schema: str) -> list[str]:
    """What the committed schema has against these bytes."""
    validator: Any = jsonschema.Draft202012Validator(
        json.loads((SCHEMAS / f"{schema}.json").read_text()),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    return [error.message for error in validator.iter_errors(json.loads(body))]


# Path, method, code, schema of the body.
ANSWERS = [
    ("/health", "GET", 200, "status"),
    ("/health/", "GET", 200, "status"),
    ("/health/live", "GET", 200, "live"),
    ("/health/ready", "GET", 200, "ready"),
    ("/health/startup", "GET", 200, "ready"),
    ("/health/report", "GET", 200, "health-report"),
    ("/health/report/database", "GET", 200, "component-status"),
    ("/health/report/disk", "GET", 200, "component-status"),
    ("/health/report/demo_worker", "GET", 200, "component-status"),
    ("/health/report/nobody", "GET", 404, "error"),
    ("/health/report/" + "x" * 5_000, "GET", 404, "error"),
    ("/health/nothing", "GET", 404, "error"),
    ("/", "GET", 404, "error"),
    ("/healthy", "GET", 404, "error"),
    ("/health", "POST", 405, "error"),
    ("/health/report", "DELETE", 405, "error"),
]


@pytest.mark.parametrize(("path", "method", "code", "schema"), ANSWERS)
def test_what_is_answered_is_what_the_schemas_say(
    demo: Service, path: str, method: str, code: int, schema: str
) -> None:
    answer = demo.get(path, method)
    assert answer.code == code, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept, Authorization"
    assert ("allow" in answer.headers) == (code == 405)
    assert problems(answer.body, schema) == []


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/report", "/health/page"])
def test_a_head_has_the_headers_of_a_get_and_no_body(demo: Service, path: str) -> None:
    head, get = demo.get(path, "HEAD"), demo.get(path)
    assert (head.code, head.body) == (get.code, b"")
    assert int(head.headers["content-length"]) > 0


def test_the_printed_address_is_a_page_with_every_component(demo: Service) -> None:
    assert demo.said == f"Health page: http://127.0.0.1:{demo.port}/health/page\n"
    answer = demo.get("/health/page")
    assert (answer.code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = answer.body.decode()
    assert all(name in page for name in DEMO_COMPONENTS)
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_demo_is_healthy_and_says_nothing_of_its_host(demo: Service, home: Path) -> None:
    report = demo.get("/health/report").json
    assert report["status"] == "healthy"
    assert {row["name"] for row in report["components"]} == DEMO_COMPONENTS
    assert str(home) not in json.dumps(report)
    assert report["service"]["instance"] is None
    assert all(row["details"] == {} for row in report["components"])


def test_it_goes_down_when_the_file_is_taken_away_and_up_when_it_is_back(
    demo: Service, file: Path
) -> None:
    file.rename(file.with_suffix(".away"))
    # Each path keeps its answer for a second.
    gone = ("/health", "/health/", "/health/ready", "/health/report", "/health/report/database")
    assert wait_until(lambda: all(demo.get(path).code == 503 for path in gone))
    down = {path: demo.get(path) for path, _, code, _ in ANSWERS if code == 200}
    for path, _, code, schema in ANSWERS:
        if code == 200:
            assert problems(down[path].body, schema) == [], path
    assert down["/health"].json["components"]["database"] == "down"
    assert down["/health/ready"].json["ready"] is False
    assert {path for path, answer in down.items() if answer.code == 200} == {
        "/health/live",
        "/health/startup",  # it had started
        "/health/report/disk",
        "/health/report/demo_worker",
    }
    row = down["/health/report/database"].json
    assert row["failure"]["exception_type"] == "OperationalError"
    assert row["failure"]["message"] is None
    file.with_suffix(".away").rename(file)
    assert wait_until(lambda: demo.get("/health").code == 200)


def test_the_database_is_in_the_state_directory_of_the_user(tmp_path: Path) -> None:
    environment = bare_environment(tmp_path / "home", XDG_STATE_HOME=str(tmp_path / "state"))
    with Service.of_cli("--demo", environment=environment, directory=tmp_path) as service:
        assert service.get("/health").code == 200
        assert (tmp_path / "state" / "cqrs-health" / "demo.sqlite3").exists()
        assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_without_complaint(tmp_path: Path, sign: int) -> None:
    environment = bare_environment(tmp_path)
    with Service.of_cli("--demo", environment=environment, directory=tmp_path) as service:
        assert service.get("/health").code == 200
        began = time.monotonic()
        os.kill(service.process.pid, sign)
        assert service.process.wait(10) == 0
        assert time.monotonic() - began < 5
    assert service.complaints == ""


def test_a_client_that_does_not_read_does_not_keep_it(tmp_path: Path) -> None:
    environment = bare_environment(tmp_path)
    with (
        Service.of_cli("--demo", environment=environment, directory=tmp_path) as service,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect((LOCALHOST, service.port))
        client.sendall(b"GET /health/page HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000)
        wait_until(lambda: _waits_to_be_read(service.port))
        assert service.terminate(20) == 0


def _waits_to_be_read(port: int) -> bool:
    """Whether the server has more to say than the other side takes: it stands in Send-Q."""
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    queues = [line.split()[4] for line in lines if line.split()[1].endswith(f":{port:04X}")]
    return any(int(queue.partition(":")[0], 16) > 100_000 for queue in queues)


REGISTRY = """
from cqrs_ddd_health import HealthRegistry

registry = HealthRegistry()
registry.register("yes", lambda: True)
def make(): return registry
empty = HealthRegistry()
nothing = 7
"""

Configure = Callable[[dict[str, str]], list[str]]


def by_option(environment: dict[str, str]) -> list[str]:
    return ["--registry", "my_health:registry"]


def by_variable(environment: dict[str, str]) -> list[str]:
    environment["CQRS_HEALTH_SERVE_REGISTRY"] = "my_health:registry"
    return []


def by_function(environment: dict[str, str]) -> list[str]:
    return ["--registry", "my_health:make"]


@pytest.mark.parametrize("configure", [by_option, by_variable, by_function])
def test_an_applications_registry_is_served(tmp_path: Path, configure: Configure) -> None:
    (tmp_path / "my_health.py").write_text(REGISTRY)
    environment = bare_environment(tmp_path)
    arguments = configure(environment)
    with Service.of_cli(*arguments, environment=environment, directory=tmp_path) as service:
        assert service.get("/health/ready").json == {"ready": True, "components": {"yes": "up"}}


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    environment = bare_environment(tmp_path)
    arguments = ["--demo", "--host", "::1"]
    with Service.of_cli(*arguments, environment=environment, directory=tmp_path) as service:
        assert service.page.startswith("http://[::1]:")
        assert service.get("/health/live").json == {"status": "alive"}


def test_host_and_port_come_from_the_environment_too(tmp_path: Path) -> None:
    environment = bare_environment(
        tmp_path,
        CQRS_HEALTH_SERVE_HOST="127.0.0.2",
        CQRS_HEALTH_SERVE_PORT="0",
        CQRS_HEALTH_DRAIN_SECONDS="0",
    )
    command = ["-m", "cqrs_ddd_health.cli", "serve", "--demo"]
    with Service(command, environment, tmp_path) as service:
        assert service.page.startswith("http://127.0.0.2:")
        assert service.get("/health/live").code == 200
