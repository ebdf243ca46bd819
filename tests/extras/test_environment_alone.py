"""`serve` and `check` with nothing but the environment: no line of code, no file."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.processes import LOCALHOST, free_port, wait_until
from tests.servers import OwnRedis
from tests.service import Answer, Service, bare_environment, run_cli

SECRET = "hunter2"


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    prefixed = {f"CQRS_HEALTH_{name}": value for name, value in variables.items()}
    return bare_environment(home, **prefixed)


def check(home: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    done = run_cli(
        "check", *arguments, environment=environment_of(home, **variables), directory=home
    )
    return done.returncode, done.stdout, done.stderr


# --- check


def test_what_the_environment_names_is_checked(own_redis: OwnRedis, tmp_path: Path) -> None:
    variables = {"CHECKS__CACHE__URL": own_redis.url, "CHECKS__CACHE__TIMEOUT_SECONDS": "9"}
    code, said, complaint = check(tmp_path, **variables)
    assert (code, complaint) == (0, "")
    assert said.splitlines()[1].split()[:2] == ["cache", "up"]
    assert said.splitlines()[-1] == "healthy: 1 of 1 up"


def test_what_does_not_exist_is_down_and_no_error(tmp_path: Path) -> None:
    url = f"redis://:{SECRET}@{LOCALHOST}:{free_port()}"
    code, said, complaint = check(tmp_path, CHECKS__CACHE__URL=url, CHECKS__DISK__URL="disk:///")
    assert (code, complaint) == (1, "")
    assert "exception" in said
    assert said.splitlines()[-1] == "unhealthy: 1 of 2 up"
    assert SECRET not in said


def test_a_check_of_the_application_is_found_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def ready(): return True\n")
    code, said, _ = check(tmp_path, CHECKS__OWN__URL="module:shop:ready")
    assert (code, said.splitlines()[-1]) == (0, "healthy: 1 of 1 up")


def test_the_environment_adds_to_a_registry(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from cqrs_ddd_health import HealthRegistry\n"
        "registry = HealthRegistry()\n"
        "registry.register('own', lambda: True)\n"
        "registry.register_from_settings()\n"
    )
    arguments = ["--registry", "shop:registry", "--json"]
    code, said, _ = check(tmp_path, *arguments, CHECKS__DISK__URL="disk:///")
    assert code == 0
    assert [row["name"] for row in json.loads(said)["components"]] == ["own", "disk"]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_bad_url_ends_it_with_its_variable_and_without_its_secret(
    tmp_path: Path, command: str
) -> None:
    environment = environment_of(tmp_path, CHECKS__DB__URL=f"posgresql://user:{SECRET}@host/db")
    done = run_cli(command, environment=environment, directory=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "cqrs-health: CQRS_HEALTH_CHECKS__DB__URL: there is no check for posgresql://, "
        "did you mean postgresql?\n"
    )


def test_options_without_a_url_are_nothing_to_check(tmp_path: Path) -> None:
    code, said, complaint = check(tmp_path, CHECKS__DB__TIMEOUT_SECONDS="1")
    assert (code, said) == (2, "")
    assert "there is nothing to check" in complaint


# --- explain


def test_it_explains_every_option_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def ready(): raise SystemExit('it ran')\n")
    code, said, _ = check(
        tmp_path,
        "--explain",
        CHECKS__OWN__URL="module:shop:ready",
        CHECKS__OWN__PROBES="live,ready",
        CHECKS__OWN__TIMEOUT_SECONDS="2.5",
        CHECKS__LESS__URL="disk:///",
        CHECKS__LESS__CRITICAL="false",
        CHECKS__OFF__URL="disk:///",
        CHECKS__OFF__ENABLED="false",
    )
    lines = [line.split() for line in said.splitlines()]
    assert code == 0
    assert ["own", "gates", "live,", "ready"] in lines
    assert ["less", "gates", "nothing"] in lines
    assert ["off", "gates", "nothing"] in lines
    assert ["timeout_seconds", "2.5", "CQRS_HEALTH_CHECKS__OWN__TIMEOUT_SECONDS"] in lines
    assert ["probes", "live,ready", "CQRS_HEALTH_CHECKS__OWN__PROBES"] in lines
    assert ["enabled", "false", "CQRS_HEALTH_CHECKS__OFF__ENABLED"] in lines
    assert ["initial_delay_seconds", "-", "default"] in lines
    assert ["failure_threshold", "1", "default"] in lines
    assert ["tags", "-", "default"] in lines


def test_it_explains_in_json_too(tmp_path: Path) -> None:
    code, said, _ = check(
        tmp_path,
        "--explain",
        "--json",
        CHECKS__DISK__URL="disk:///",
        CHECKS__DISK__TIMEOUT_SECONDS="2",
    )
    explained = json.loads(said)["disk"]
    assert (code, explained["gates"]) == (0, ["ready"])
    assert explained["options"]["timeout_seconds"] == {
        "value": 2.0,
        "origin": "CQRS_HEALTH_CHECKS__DISK__TIMEOUT_SECONDS",
    }


# --- serve


def down(service: Service) -> bool:
    return service.get("/health/ready").code == 503


def test_a_service_follows_its_dependency_and_starts_without_it(
    own_redis: OwnRedis, tmp_path: Path
) -> None:
    environment = environment_of(
        tmp_path,
        CHECKS__CACHE__URL=own_redis.url,
        CHECKS__CACHE__INTERVAL_SECONDS="0.2",
        CHECKS__CACHE__DOWN_INTERVAL_SECONDS="0.2",
        CHECKS__CACHE__TIMEOUT_SECONDS="1",
    )
    own_redis.stop()
    try:
        with Service.of_cli(environment=environment, directory=tmp_path) as service:
            assert service.get("/health/live").code == 200
            assert down(service)
            own_redis.start()
            assert wait_until(lambda: not down(service))
            own_redis.freeze()
            assert wait_until(lambda: down(service))
            assert service.get("/health/live").code == 200
            own_redis.thaw()
            assert wait_until(lambda: not down(service))
            own_redis.kill()
            assert wait_until(lambda: down(service))
            own_redis.start()
            assert wait_until(lambda: not down(service))
    finally:
        own_redis.recover()
    assert service.complaints == ""
    went = [line.partition(" (")[0] for line in service.transitions]
    ups_and_downs = ("unknown to down", "down to up", *(("up to down", "down to up") * 2))
    assert went == [f"check 'cache' went from {step}" for step in ups_and_downs]
    assert service.transitions[2].endswith("(timeout: no answer within 1 s)")


def answers(service: Service, path: str, until: Callable[[], bool]) -> list[Answer]:
    """Ask again and again for as long as somebody listens, and until the condition holds."""
    found: list[Answer] = []
    while not until():
        try:
            found.append(service.get(path))
        except httpx.TransportError:
            break
        time.sleep(0.01)
    return found


def test_sigterm_drains_before_it_ends_the_service(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, CHECKS__DISK__URL="disk:///", DRAIN_SECONDS="3")
    with Service.of_cli(environment=environment, directory=tmp_path) as service:
        assert not down(service)
        service.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: down(service))
        lives = answers(service, "/health/live", lambda: service.process.poll() is not None)
        assert service.process.wait(10) == 0
    assert len(lives) > 3
    assert {answer.code for answer in lives} == {200}
    assert service.complaints == ""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, sign: signal.Signals) -> None:
    environment = environment_of(tmp_path, CHECKS__DISK__URL="disk:///", DRAIN_SECONDS="3600")
    with Service.of_cli(environment=environment, directory=tmp_path) as service:
        assert not down(service)
        service.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: down(service))
        service.process.send_signal(sign)
        assert service.process.wait(10) == 0


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run_cli("--version", environment=bare_environment(tmp_path), directory=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("cqrs-health 0.")
