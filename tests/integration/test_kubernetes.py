"""What is exported for Kubernetes: valid there, and in step with what the library answers.

`kubernetes-validate` is installed with the tools of the integration tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from cqrs_ddd_health import HealthSettings, HeartbeatFile
from cqrs_ddd_health.cli.export.rendering import rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from tests.core.actors import eventually_sync
from tests.documents import blocks_of
from tests.service import Service, bare_environment, run_cli

Object: TypeAlias = dict[str, Any]

VALIDATOR = Path(sys.executable).parent / "kubernetes-validate"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
OLDEST = "1.30"  # the first whose preStop sleeps without a feature gate
SETTINGS = HealthSettings(heartbeat_timeout_seconds=90.5, drain_seconds=12.5)
SETS = (
    (),
    (
        *("app=orders", "namespace=shop", "image=images.example:5000/shop/orders@sha256:0a1b"),
        *("replicas=5", "worker_replicas=3", "worker_module=orders.relay", "port=8080"),
        *("metrics_port=9100", "startup_path=/health/ready", "prestop_seconds=20"),
        *("store_url_from=orders-health", "drain_seconds=0", "check_timeout_seconds=2.5"),
    ),
)
OF_THE_WORKER = {"HEARTBEAT_FILE", "METRICS_PORT"}  # its own code reads these
NAMES = {"startupProbe", "livenessProbe", "readinessProbe"}


class Manifests(NamedTuple):
    """The two Deployments of one file."""

    text: str
    service: Object
    web: Object
    worker: Object

    @classmethod
    def of(cls, text: str) -> Manifests:
        return cls(text, *yaml.safe_load_all(text))

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """Each pod, and its only container."""
        for deployment in (self.web, self.worker):
            pod = deployment["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield pod, container


@pytest.fixture(params=SETS, ids=["defaults", "everything"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    values = DeployValues.of(SETTINGS if request.param else HealthSettings(), request.param)
    return Manifests.of(rendered("kubernetes", values)["kubernetes.yml"])


@pytest.fixture
def defaults() -> Manifests:
    values = DeployValues.of(HealthSettings())
    return Manifests.of(rendered("kubernetes", values)["kubernetes.yml"])


def probes(container: Object) -> dict[str, Object]:
    return {name: probe for name, probe in container.items() if name in NAMES}


def worst_case_seconds(probe: Object) -> int:
    """How long it may take from the first bad answer until something is done about it."""
    seconds: int = probe["periodSeconds"] * probe["failureThreshold"]
    return seconds


def plain(container: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def validated(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert VALIDATOR.exists(), "pip install --group integration"
    command: list[str | Path] = [VALIDATOR, "--strict", *options, file]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("options", [(), ("--kubernetes-version", OLDEST)])
def test_kubernetes_takes_it(
    manifests: Manifests, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "kubernetes.yml"
    file.write_text(manifests.text, "utf-8")
    done = validated(file, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validator_finds_a_misspelled_field(defaults: Manifests, tmp_path: Path) -> None:
    file = tmp_path / "kubernetes.yml"
    file.write_text(defaults.text.replace("timeoutSeconds: 2", "timeOutSeconds: 2"), "utf-8")
    assert validated(file).returncode != 0


def test_the_probes_are_those_of_the_contract(defaults: Manifests) -> None:
    (_, web), _ = defaults.pods()
    found = {
        name: (
            probe["httpGet"]["path"],
            probe.get("initialDelaySeconds"),
            probe["periodSeconds"],
        )
        for name, probe in probes(web).items()
    }
    assert found["livenessProbe"] == ("/health/live", 5, 10)
    assert found["readinessProbe"] == ("/health/ready", 10, 15)
    assert found["startupProbe"][0] == "/health/startup"
    assert {"name": "http", "containerPort": 8000} in web["ports"]
    assert {probe["httpGet"]["port"] for probe in probes(web).values()} == {"http"}


def test_a_probe_waits_longer_than_an_answer_takes(manifests: Manifests) -> None:
    for _, container in manifests.pods():
        for probe in probes(container).values():
            assert probe["timeoutSeconds"] == 2 > 2 * HealthSettings().http_deadline_seconds
            assert probe["timeoutSeconds"] < probe["periodSeconds"]


def test_a_pod_is_out_of_service_long_before_it_is_restarted(manifests: Manifests) -> None:
    (_, web), _ = manifests.pods()
    startup, live, ready = (
        probes(web)[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")
    )
    assert worst_case_seconds(ready) <= 30
    assert worst_case_seconds(live) >= 2 * worst_case_seconds(ready)
    assert worst_case_seconds(startup) >= 2 * worst_case_seconds(live)
    assert startup["failureThreshold"] > live["failureThreshold"] > ready["failureThreshold"]


def test_a_worker_that_hangs_is_restarted_after_its_beat_is_stale(manifests: Manifests) -> None:
    _, (_, worker) = manifests.pods()
    assert probes(worker).keys() == {"startupProbe", "livenessProbe"}  # no Service sends to it
    timeout = float(plain(worker)["CQRS_HEALTH_HEARTBEAT_TIMEOUT_SECONDS"])
    for probe in probes(worker).values():
        command = probe["exec"]["command"]
        assert float(command[command.index("--max-age") + 1]) == timeout
    live, startup = probes(worker)["livenessProbe"], probes(worker)["startupProbe"]
    assert 60 <= worst_case_seconds(live) < worst_case_seconds(startup)


def test_there_is_time_to_leave(manifests: Manifests) -> None:
    for pod, container in manifests.pods():
        hook = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
        drain = float(plain(container)["CQRS_HEALTH_DRAIN_SECONDS"])
        before_the_server = hook["sleep"]["seconds"] + drain
        assert pod["terminationGracePeriodSeconds"] >= before_the_server + 30
    (_, web), (_, worker) = manifests.pods()
    assert web["lifecycle"]["preStop"]["sleep"]["seconds"] > 0
    assert "lifecycle" not in worker  # nobody sends to it


def test_a_name_of_the_environment_is_a_setting(manifests: Manifests) -> None:
    secret = {"HEARTBEAT_STORE_URL", "BEARER_TOKEN"}
    for pod, container in manifests.pods():
        assert pod["enableServiceLinks"] is False
        names = {each["name"].removeprefix("CQRS_HEALTH_") for each in container["env"]}
        assert {name.lower() for name in names - OF_THE_WORKER} <= set(HealthSettings.model_fields)
        said = {name.removeprefix("CQRS_HEALTH_") for name in plain(container)}
        assert names & secret
        assert not said & secret


def test_nothing_runs_as_root_or_writes_beside_its_volumes(manifests: Manifests) -> None:
    for pod, container in manifests.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {each["name"] for each in container["volumeMounts"]} == {
            each["name"] for each in pod["volumes"] if "emptyDir" in each
        }
        assert container["resources"]["requests"]["memory"]
        assert container["resources"]["limits"].keys() == {"memory"}
    (_, worker) = list(manifests.pods())[1]
    file = Path(plain(worker)["HEARTBEAT_FILE"])
    assert str(file.parent) in {each["mountPath"] for each in worker["volumeMounts"]}


def test_what_belongs_together_has_the_same_labels_and_ports(manifests: Manifests) -> None:
    for deployment in (manifests.web, manifests.worker):
        template = deployment["spec"]["template"]
        assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        (container,) = template["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        annotations = template["metadata"]["annotations"]
        assert int(annotations["prometheus.io/port"]) == ports["metrics"]
        assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/path"]) == (
            "true",
            "/metrics",
        )
    web_labels = manifests.web["spec"]["template"]["metadata"]["labels"]
    assert manifests.service["spec"]["selector"] == web_labels
    assert (
        manifests.service["spec"]["selector"]
        != (manifests.worker["spec"]["template"]["metadata"]["labels"])
    )
    (port,) = manifests.service["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_a_service_takes_its_environment_and_answers_its_probes(
    manifests: Manifests, tmp_path: Path
) -> None:
    (_, web), _ = manifests.pods()
    said = {**plain(web), "CQRS_HEALTH_HEARTBEAT_STORE_URL": f"sqlite+aiosqlite:///{tmp_path}/b"}
    environment = bare_environment(tmp_path, **said)
    here = ("--demo", "--strict-settings", "--host", "127.0.0.1")
    with Service.of_cli(*here, environment=environment, directory=tmp_path) as service:
        for probe in probes(web).values():
            assert service.get(probe["httpGet"]["path"]).code == 200
        annotations = manifests.web["spec"]["template"]["metadata"]["annotations"]
        metrics = service.get(annotations["prometheus.io/path"])
        assert b"cqrs_health_component_up" in metrics.body
        service.process.kill()  # it would drain first
        service.process.wait(10)


def test_the_exec_probe_sees_the_beat_of_the_worker(manifests: Manifests, tmp_path: Path) -> None:
    _, (_, worker) = manifests.pods()
    file = tmp_path / "worker.beat"
    for probe in probes(worker).values():
        program, *arguments = probe["exec"]["command"]
        assert program == "cqrs-health"
        arguments[arguments.index("--file") + 1] = str(file)
        file.unlink(missing_ok=True)
        environment = bare_environment(tmp_path)
        assert run_cli(*arguments, environment=environment, directory=tmp_path).returncode == 1
        HeartbeatFile(file).beat()
        assert run_cli(*arguments, environment=environment, directory=tmp_path).returncode == 0


def test_the_worker_of_the_documents_is_probed_by_its_beat_and_leaves_when_told(
    manifests: Manifests, tmp_path: Path
) -> None:
    _, (_, worker) = manifests.pods()
    (block,) = blocks_of(OPERATIONS, 'python title="worker.py"')
    (tmp_path / "worker.py").write_text(block.source, "utf-8")
    said = plain(worker)
    assert said.keys() >= OF_THE_WORKER
    said |= {"HEARTBEAT_FILE": str(tmp_path / "worker.beat"), "METRICS_PORT": "0"}
    environment = bare_environment(tmp_path, **said)
    command = [sys.executable, "-m", "worker"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
        try:
            arguments = probes(worker)["livenessProbe"]["exec"]["command"][1:]
            arguments[arguments.index("--file") + 1] = said["HEARTBEAT_FILE"]
            eventually_sync(
                lambda: (
                    not run_cli(*arguments, environment=environment, directory=tmp_path).returncode
                )
            )
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
