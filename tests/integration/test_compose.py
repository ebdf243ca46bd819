"""What is exported for Compose: valid there, for this machine alone, and complete.

`check-jsonschema` is installed with the tools of the integration tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from cqrs_ddd_health.cli.export.rendering import KINDS, rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from cqrs_ddd_health.config.settings import HealthSettings
from tests.service import Service, bare_environment, run_cli

Object: TypeAlias = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
VALIDATOR = Path(sys.executable).parent / "check-jsonschema"
NAME = "docker-compose.health.yml"
ON_HOST = (
    *("scraped=host", "demo_from=index", "target=host.docker.internal:9100", "demo_port=9001"),
    *("prometheus_port=19090", "grafana_port=13000", "alertmanager_port=19093"),
    *("loki_port=13100", "jaeger_port=26686", "app=orders", "drain_seconds=0.5"),
)
SETS = ((), ON_HOST, ("target=orders:9200",))
PORTS = {"prometheus": 9090, "grafana": 3000, "alertmanager": 9093, "loki": 3100, "jaeger": 16686}
BIND = re.compile(r"127\.0\.0\.1:[0-9]+:([0-9]+)")
SECRET_FILE = re.compile("/run/secrets/([a-z_]+)")
DEFAULTS = DeployValues.of(HealthSettings())
IS_SECRET = re.compile("PASSWORD|SECRET|TOKEN|_KEY")


class Stack(NamedTuple):
    """One file, and what stands in it."""

    text: str
    services: Object
    secrets: Object
    volumes: Object

    @classmethod
    def of(cls, *given: str) -> Stack:
        text = rendered("compose", DeployValues.of(HealthSettings(), given))[NAME]
        read: Object = yaml.safe_load(text)
        return cls(text, read["services"], read["secrets"], read["volumes"])

    def mounted(self, kind: str) -> list[Object]:
        """Everything of that kind that is mounted anywhere."""
        mounts = [each for service in self.services.values() for each in service.get("volumes", ())]
        return [each for each in mounts if each["type"] == kind]


@pytest.fixture(params=SETS, ids=["defaults", "on_host", "another_target"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return Stack.of(*request.param)


def published(service: Object) -> list[int]:
    """The ports in the container, all of which are published on the loopback."""
    found = [BIND.fullmatch(each) for each in service.get("ports", ())]
    assert all(found), service["ports"]
    return [int(each[1]) for each in found if each]


def validated(file: Path) -> subprocess.CompletedProcess[str]:
    assert VALIDATOR.exists(), "pip install --group integration"
    command: list[str | Path] = [VALIDATOR, "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_compose_takes_it(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text(stack.text, "utf-8")
    done = validated(file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validator_finds_a_misspelled_key(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text(Stack.of().text.replace("healthcheck:", "healthCheck:"), "utf-8")
    assert validated(file).returncode != 0


def test_every_port_is_for_this_machine_alone(stack: Stack) -> None:
    for name, port in PORTS.items():
        assert port in published(stack.services[name])
    ports = [each for service in stack.services.values() for each in service.get("ports", ())]
    assert len({each.rpartition(":")[0] for each in ports}) == len(ports)


def test_the_ports_of_the_host_can_be_chosen() -> None:
    ports = {name: Stack.of(*ON_HOST).services[name]["ports"][0] for name in PORTS}
    assert ports == {
        "prometheus": "127.0.0.1:19090:9090",
        "grafana": "127.0.0.1:13000:3000",
        "alertmanager": "127.0.0.1:19093:9093",
        "loki": "127.0.0.1:13100:3100",
        "jaeger": "127.0.0.1:26686:16686",
    }


def test_no_secret_stands_in_it(stack: Stack) -> None:
    for service in stack.services.values():
        for name, value in service.get("environment", {}).items():
            assert not IS_SECRET.search(name) or name.endswith("_FILE"), name
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert all(each["file"].startswith("./secrets/") for each in stack.secrets.values())


def test_every_secret_that_a_mounted_file_names_is_there() -> None:
    files = {name: text for kind in KINDS for name, text in rendered(kind, DEFAULTS).items()}
    for service in Stack.of().services.values():
        mounted = [each["source"] for each in service.get("volumes", ()) if each["type"] == "bind"]
        for name in mounted:
            inside = [f for f in files if f"./{f}" == name or f"./{f}".startswith(f"{name}/")]
            for text in (files[each] for each in inside):
                assert set(SECRET_FILE.findall(text)) <= set(service.get("secrets", ()))


def test_every_image_says_its_version_and_everything_comes_back(stack: Stack) -> None:
    for service in stack.services.values():
        assert service["restart"] == "unless-stopped"
        assert "no-new-privileges:true" in service["security_opt"]
        if "image" in service:
            assert re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$", service["image"])
    base = stack.services["demo"]["build"]["dockerfile_inline"].splitlines()[0]
    assert re.fullmatch(r"FROM python:3\.[0-9]+-slim", base)


def test_every_file_that_is_mounted_is_exported(stack: Stack) -> None:
    exported = {name for names in KINDS.values() for name in names}
    sources = {each["source"].removeprefix("./") for each in stack.mounted("bind")}
    missing = {
        source
        for source in sources
        if source not in exported and not any(name.startswith(f"{source}/") for name in exported)
    }
    assert not missing
    for each in stack.mounted("bind"):
        assert each["read_only"] is True
        assert each["bind"] == {"create_host_path": False}  # a directory instead of a file
    assert {each["source"] for each in stack.mounted("volume")} == stack.volumes.keys()


@pytest.mark.parametrize("target", ["host.docker.internal:9000", "orders:9200"])
def test_prometheus_finds_the_demo_at_its_target(target: str) -> None:
    given = (f"target={target}",)
    stack = Stack.of(*given)
    prometheus = yaml.safe_load(
        rendered("prometheus", DeployValues.of(HealthSettings(), given))["prometheus.yml"]
    )
    scraped = [
        each
        for job in prometheus["scrape_configs"]
        for config in job["static_configs"]
        for each in config["targets"]
    ]
    assert target in scraped
    host, _, port = target.partition(":")
    demo = stack.services["demo"]
    assert demo["networks"]["default"]["aliases"] == [host]
    assert demo["environment"]["CQRS_HEALTH_SERVE_PORT"] == port
    assert published(demo) == [int(port)]
    assert demo["profiles"] == []  # it is started
    assert stack.services["prometheus"]["extra_hosts"] == []  # which would go before the alias


def test_prometheus_finds_what_runs_on_the_host_if_told() -> None:
    stack = Stack.of(*ON_HOST)
    hosts = stack.services["prometheus"]["extra_hosts"]
    assert hosts == ["host.docker.internal:host-gateway"]
    assert stack.services["demo"]["profiles"] == ["demo"]  # and it is not started unasked


def test_the_demo_takes_its_environment_and_is_well(stack: Stack, tmp_path: Path) -> None:
    demo = stack.services["demo"]
    (address,) = (word for word in demo["healthcheck"]["test"] if word.startswith("http:"))
    port = demo["environment"]["CQRS_HEALTH_SERVE_PORT"]
    assert address == f"http://127.0.0.1:{port}/health/live"
    said = {**demo["environment"], "XDG_STATE_HOME": str(tmp_path)}
    environment = bare_environment(tmp_path, **said)
    here = ("--demo", "--strict-settings", "--host", "127.0.0.1")
    with Service.of_cli(*here, environment=environment, directory=tmp_path) as service:
        program, *arguments = demo["healthcheck"]["test"][1:]
        assert program == "cqrs-health"
        arguments[-1] = address.replace(f":{port}/", f":{service.port}/")
        done = run_cli(*arguments, environment=environment, directory=tmp_path)
        assert done.returncode == 0, done.stderr
        assert b"cqrs_health_component_up" in service.get("/metrics").body
        service.process.kill()  # it would drain first
        service.process.wait(10)


def test_the_demo_is_built_of_what_is_not_ignored(tmp_path: Path) -> None:
    build = Stack.of().services["demo"]["build"]
    assert build["context"] == ".."
    assert "/source[" in build["dockerfile_inline"]
    said = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in said
    for name in (line.removeprefix("!") for line in said if line.startswith("!")):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    # Without isolation nothing is downloaded: the build backend is a test requirement.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_demo_can_be_of_the_index() -> None:
    build = Stack.of(*ON_HOST).services["demo"]["build"]
    assert build["context"] == "."
    assert '"cqrs-ddd-health[' in build["dockerfile_inline"]
