"""Names that enter by the settings, from whatever place: as good as any other, or refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cqrs_ddd_health import (
    CheckSettings,
    HealthRegistry,
    HealthSettings,
    InvalidNameError,
    SettingsError,
)
from cqrs_ddd_health.domain.names import require_name
from cqrs_ddd_health.heartbeats.stores.memory import MemoryHeartbeatStore

BAD_NAMES = {
    "": "CQRS_HEALTH_CHECKS__",
    "  ": "CQRS_HEALTH_CHECKS__  ",
    "\u200b": r"CQRS_HEALTH_CHECKS__\u200b",
    "\u202e": r"CQRS_HEALTH_CHECKS__\u202e",
    "a\u2066b": r"CQRS_HEALTH_CHECKS__A\u2066B",
    "a\udcffb": r"CQRS_HEALTH_CHECKS__A\udcffB",
    "a\x07": r"CQRS_HEALTH_CHECKS__A\x07",
    "a" * 129: "CQRS_HEALTH_CHECKS__" + "A" * 99 + "…",
    "\u0130" * 128: "CQRS_HEALTH_CHECKS__",  # twice as long in lower case
}
"""Each with the variable that the error names."""
_Say = Callable[[str, pytest.MonkeyPatch, Path], None]


def variable(name: str) -> str:
    return f"CQRS_HEALTH_CHECKS__{name}__CRITICAL"


def in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(variable(name), "false")


def in_json(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECKS", json.dumps({name: {"critical": False}}))


def in_a_dotenv_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(f"CQRS_HEALTH_CHECKS={json.dumps({name: {'critical': False}})}\n")
    monkeypatch.setenv("CQRS_HEALTH_ENV_FILE", str(file))


def in_a_secret_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "CQRS_HEALTH_CHECKS"
    file.write_text(json.dumps({name: {"critical": False}}))
    monkeypatch.setenv("CQRS_HEALTH_SECRETS_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("CQRS_HEALTH_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "say",
    [in_the_environment, in_json, in_a_dotenv_file, in_a_secret_file],
    ids=lambda say: say.__name__,
)
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_an_error_that_names_its_variable(
    name: str, say: _Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    say(name, monkeypatch, tmp_path)
    with pytest.raises(SettingsError) as caught:
        HealthRegistry()
    said = str(caught.value)
    assert said.startswith(BAD_NAMES[name])
    assert "__CRITICAL: the name of a check must" in said
    assert "CQRS_HEALTH_CHECKS__NAME__OPTION" in said
    assert len(said) < 500
    assert said.isprintable()


def test_a_template_that_was_filled_with_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECKS____URL", "disk:///tmp")
    with pytest.raises(SettingsError, match=r"^CQRS_HEALTH_CHECKS____URL: .* empty or blank"):
        HealthRegistry()


def test_a_name_without_options_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__", "x")
    with pytest.raises(SettingsError, match=r"^CQRS_HEALTH_CHECKS__: .* empty or blank"):
        HealthRegistry()


def test_an_option_that_there_is_not_is_shown_on_one_short_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CQRS_HEALTH_CHECKS__DB__\u202e" + "x" * 10_000, "1")
    with pytest.raises(SettingsError, match="there is no such option") as caught:
        HealthRegistry()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_secret_in_place_of_a_name_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://user:hunter2@{'h' * 120}/0"
    monkeypatch.setenv("CQRS_HEALTH_CHECKS", json.dumps({url: {"critical": False}}))
    with pytest.raises(SettingsError, match="at most 128 characters") as caught:
        HealthRegistry()
    assert "hunter2" not in str(caught.value).lower()


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_settings_in_code_are_refused_as_well(name: str) -> None:
    with pytest.raises(ValidationError, match="the name of a check must"):
        HealthSettings(checks={name: CheckSettings(critical=False)})


@pytest.mark.parametrize("name", ["", "a\u202eb", "a" * 129], ids=ascii)
def test_a_name_that_was_smuggled_into_the_settings_registers_nothing(name: str) -> None:
    checks = {"fine": "disk:///", name: "disk:///"}
    smuggled = HealthSettings().model_copy(
        update={
            "checks": {
                name: CheckSettings.model_validate({"url": url}, strict=False)
                for name, url in checks.items()
            }
        }
    )
    registry = HealthRegistry(settings=smuggled)
    with pytest.raises(SettingsError, match="the name of a check must"):
        registry.register_from_settings()
    assert registry.names == ()
    with pytest.raises(InvalidNameError):
        registry._engine.catalog.set_up(name, lambda: True)


def test_an_instance_that_was_smuggled_in_is_refused() -> None:
    smuggled = HealthSettings().model_copy(update={"instance": "a\nb"})
    with pytest.raises(InvalidNameError, match="the name of a process"):
        HealthRegistry(settings=smuggled)


@pytest.mark.parametrize("host", ["a\udcffb", "a\nb", "", "\u202e", "h" * 300])
async def test_a_host_of_any_name_has_an_instance(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    store = MemoryHeartbeatStore()
    assert require_name(store.instance, "process").endswith(store.token)
    report = await HealthRegistry(settings=HealthSettings()).report()
    assert report.service.instance is not None
