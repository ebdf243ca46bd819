"""What docs/operations.md says is so: its commands, alerts, links and the line that it shows."""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cqrs_ddd_health import HealthSettings
from cqrs_ddd_health.cli.export.rendering import KINDS, rendered
from cqrs_ddd_health.cli.export.values import DeployValues
from cqrs_ddd_health.domain.transitions import LOGGER
from cqrs_ddd_health.testing import clean_registry
from tests.core.actors import eventually
from tests.documents import Namespace, blocks_of, python_blocks
from tests.service import bare_environment, run_cli

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
CALL = re.compile(r"(?P<variables>(?:[A-Z_]+=\S+ )*)cqrs-health (?P<arguments>export .*)")
TEXT = OPERATIONS.read_text("utf-8")


class Command(NamedTuple):
    """A call of `cqrs-health`, and what it prints."""

    variables: dict[str, str]
    arguments: list[str]
    printed: str


def commands() -> Iterator[Command]:
    """The calls of `cqrs-health export` that begin a line, after nothing but variables."""
    for block in blocks_of(OPERATIONS, "console"):
        for said in re.split(r"^\$ ", block.source, flags=re.MULTILINE)[1:]:
            line, _, printed = said.partition("\n")
            if call := CALL.fullmatch(line):
                pairs = (word.partition("=") for word in shlex.split(call["variables"]))
                variables = {name: value for name, _, value in pairs}
                yield Command(variables, shlex.split(call["arguments"]), printed)


COMMANDS = [each for each in commands() if each.arguments[1] in KINDS]


def test_there_are_commands() -> None:
    assert {"prometheus", "kubernetes"} <= {each.arguments[1] for each in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.arguments[1])
def test_a_command_prints_what_is_shown(command: Command, tmp_path: Path) -> None:
    environment = bare_environment(tmp_path, **command.variables)
    done = run_cli(*command.arguments, environment=environment, directory=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, command.printed, "")


def test_every_kind_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z]+)` \| `", TEXT, re.MULTILINE))
    assert explained >= KINDS.keys()


def test_every_alert_is_explained() -> None:
    defaults = DeployValues.of(HealthSettings())
    files = {name: text for kind in KINDS for name, text in rendered(kind, defaults).items()}
    alerts = set(re.findall(r"- alert: (\w+)", files["alerts.yml"]))
    explained = set(re.findall(r"^\| `(CqrsHealth\w+)` \|", TEXT, re.MULTILINE))
    assert alerts == explained


def test_every_link_leads_somewhere() -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]+))?\)", TEXT):
        linked = OPERATIONS.parent / path
        assert linked.exists(), path
        headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
        assert not anchor or anchor in {name.lower().replace(" ", "-") for name in headings}


async def test_a_line_of_the_log_is_the_one_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [])
    shown = blocks_of(OPERATIONS, "json")[0]
    with clean_registry() as health:
        namespace: Namespace = {"health": health}
        for block in python_blocks(OPERATIONS):
            if block.section == shown.section:
                await block.run(namespace)
    said = ""

    def is_said() -> bool:  # by the thread that tells listeners
        nonlocal said
        said += capsys.readouterr().err
        return said.endswith("\n")

    await eventually(is_said)
    assert json.loads(said) == json.loads(shown.source)
