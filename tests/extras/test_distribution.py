"""What is published: the sdist, and the wheel that is built from it, opened and installed."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

import cqrs_ddd_health
from tests.core.imports import modules_of
from tests.core.test_public_api import NEEDS_EXTRAS
from tests.environments import Environment, run
from tests.service import Service, bare_environment

REPOSITORY = Path(__file__).parents[2]
RESOURCES = {"psutil", "alembic"}
BROKERS = {"amqp", "nats", "mqtt", "kafka"}
EXTRAS = {"sqlalchemy", "redis", "fastapi", "prometheus", *BROKERS, *RESOURCES, "all"}
SDIST_TOP = {
    ".gitignore",  # hatchling adds it, and builds with it
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "cqrs_ddd_health",
    "deploy",
    "docs",
    "examples",
    "py.typed",
    "pyproject.toml",
    "schemas",
    "tests",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("distribution")
    # Without isolation nothing is downloaded: the build backend is a test requirement.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory)]
    run([*command, str(REPOSITORY)])
    return directory


@pytest.fixture(scope="module")
def in_wheel(built: Path) -> dict[str, bytes]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


@pytest.fixture(scope="module")
def in_sdist(built: Path) -> dict[str, bytes]:
    """The files of the sdist, by their names below its one directory."""
    (path,) = built.glob("*.tar.gz")
    files: dict[str, bytes] = {}
    with tarfile.open(path) as sdist:
        for member in sdist.getmembers():
            content = sdist.extractfile(member)
            assert content is not None
            files[member.name.partition("/")[2]] = content.read()
    return files


@pytest.fixture(scope="module")
def metadata(in_wheel: dict[str, bytes]) -> Message:
    (name,) = (name for name in in_wheel if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(in_wheel[name].decode())


def package_files() -> set[str]:
    files = (path for path in (REPOSITORY / "cqrs_ddd_health").rglob("*") if path.is_file())
    return {path.relative_to(REPOSITORY).as_posix() for path in files if is_source(path)}


def is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix not in {".pyc", ".pyo"}


def test_the_wheel_holds_the_package_and_nothing_else(in_wheel: dict[str, bytes]) -> None:
    files = {name for name in in_wheel if ".dist-info/" not in name}
    assert files == package_files()


def test_the_wheel_holds_what_is_not_python(in_wheel: dict[str, bytes]) -> None:
    assert "cqrs_ddd_health/py.typed" in in_wheel
    assert b"<html" in in_wheel["cqrs_ddd_health/web/page/page.html"]


def test_the_sdist_holds_what_a_packager_needs(in_sdist: dict[str, bytes]) -> None:
    assert {PurePosixPath(name).parts[0] for name in in_sdist} == SDIST_TOP
    assert in_sdist.keys() > package_files()
    assert {"py.typed", "cqrs_ddd_health/py.typed", "tests/servers.py"} <= in_sdist.keys()


def test_the_sdist_holds_every_schema(in_sdist: dict[str, bytes]) -> None:
    schemas = {f"schemas/{path.name}" for path in (REPOSITORY / "schemas").iterdir()}
    assert schemas
    assert schemas <= in_sdist.keys()


def test_nothing_that_a_tool_left_behind_is_published(
    in_wheel: dict[str, bytes], in_sdist: dict[str, bytes]
) -> None:
    for name in [*in_wheel, *in_sdist]:
        path = Path(name)
        assert is_source(path), name
        hidden = [part for part in path.parts if part.startswith(".") and part != ".gitignore"]
        assert not hidden, name
        assert path.suffix not in {".db", ".lock", ".log", ".sqlite", ".whl"}, name


def test_the_metadata_says_what_is_needed(metadata: Message) -> None:
    assert metadata["Name"] == "cqrs-ddd-health"
    assert metadata["Version"] == cqrs_ddd_health.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS


def test_without_an_extra_little_is_needed(metadata: Message) -> None:
    requirements: list[str] = metadata.get_all("Requires-Dist", [])
    bare = {line.partition(">")[0] for line in requirements if "extra ==" not in line}
    assert bare == {
        "pydantic",
        "pydantic-core",
        "pydantic-settings",
        "python-dotenv",
        "typing-extensions",
    }


def test_the_license_is_said_and_brought_along(
    metadata: Message, in_wheel: dict[str, bytes], in_sdist: dict[str, bytes]
) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Author"] == "the cqrs-ddd-health authors"
    text = (REPOSITORY / "LICENSE").read_bytes()
    assert text.startswith(b"MIT License\n")
    assert b"the cqrs-ddd-health authors" in text
    (in_the_wheel,) = (name for name in in_wheel if name.endswith("/licenses/LICENSE"))
    assert in_wheel[in_the_wheel] == in_sdist["LICENSE"] == text


def test_the_classifiers_say_nothing_else(metadata: Message) -> None:
    classifiers: list[str] = metadata.get_all("Classifier", [])
    assert len(classifiers) == len(set(classifiers))
    # Beside a license expression there may be none.
    assert not [line for line in classifiers if line.startswith("License ::")]
    assert "Programming Language :: Python :: 3.11" in classifiers  # the lowest, see above


def test_the_extra_all_is_every_other_extra(metadata: Message) -> None:
    requirements: list[str] = metadata.get_all("Requires-Dist", [])
    needs = {
        extra: {line.partition(";")[0] for line in requirements if f"extra == '{extra}'" in line}
        for extra in EXTRAS
    }
    assert all(needs.values())
    assert needs["all"] == set[str]().union(*(needs[extra] for extra in EXTRAS - {"all"}))


def test_the_command_is_installed() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="cqrs-health")
    assert command.value == "cqrs_ddd_health.cli:main"


# ---------------------------------------------------------------- installed

SERVICE = """
import threading
from cqrs_ddd_health import HealthRegistry, HealthServer
registry = HealthRegistry()
registry.register("disk", lambda: True)
registry.heartbeat("worker")
with HealthServer(registry, port=0) as server:
    print(f"http://127.0.0.1:{server.port}/health/page", flush=True)
    threading.Event().wait()
"""


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def environment(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment that was empty before one of the two was installed."""
    directory = tmp_path_factory.mktemp(request.param)
    (wheel,) = built.glob("*.whl")
    if request.param == "sdist":  # which installers make a wheel of, in the same way
        (sdist,) = built.glob("*.tar.gz")
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory)]
        run([sys.executable, "-m", "pip", "wheel", *options, str(sdist)])
        (wheel,) = directory.glob("*.whl")
    made = Environment(directory / "environment")
    made.install(wheel)
    return made


@pytest.fixture
def asked(environment: Environment, tmp_path: Path) -> Callable[..., str]:
    """Runs the installed command with these arguments, elsewhere, and returns what it printed."""

    def ask(*arguments: str, **variables: str) -> str:
        said = without_python(bare_environment(tmp_path, **variables))
        return run([environment.command, *arguments], tmp_path, said)

    return ask


def without_python(variables: dict[str, str]) -> dict[str, str]:
    """Leave out what would have an interpreter find more than is installed."""
    return {key: value for key, value in variables.items() if not key.startswith("PYTHON")}


def test_what_it_requires_is_all_that_it_needs(environment: Environment) -> None:
    assert "no broken requirements" in environment.pip("check").lower()
    assert not environment.distributions & {"sqlalchemy", "redis", "fastapi", "uvicorn", "psutil"}


def test_every_module_that_needs_no_extra_is_imported(
    environment: Environment, tmp_path: Path
) -> None:
    modules = modules_of(REPOSITORY / "cqrs_ddd_health").keys() - NEEDS_EXTRAS
    names = [f"cqrs_ddd_health.{module}".rstrip(".") for module in sorted(modules)]
    code = "import importlib, sys; [*map(importlib.import_module, sys.argv[1:])]"
    run([environment.python, "-I", "-W", "error", "-c", code, *names], tmp_path)


def test_what_is_installed_serves(environment: Environment, tmp_path: Path) -> None:
    variables = without_python(bare_environment(tmp_path))
    command = ["-I", "-c", SERVICE]
    with Service(command, variables, tmp_path, python=environment.python) as service:
        assert service.get("/health/ready").json["ready"] is True
        report = service.get("/health/report").json
        assert [row["name"] for row in report["components"]] == ["disk", "worker"]
        assert service.get("/health/page").body.startswith(b"<!doctype html>")
        run([environment.command, "probe", f"{service.root}/health/ready"], tmp_path, variables)


def test_what_is_installed_serves_without_code(environment: Environment, tmp_path: Path) -> None:
    url = {"CQRS_HEALTH_CHECKS__DISK__URL": f"disk://{tmp_path}"}
    variables = without_python(bare_environment(tmp_path, **url))
    command = ["-I", environment.command, "serve", "--port", "0"]
    with Service(command, variables, tmp_path, python=environment.python) as service:
        assert service.get("/health/ready").json["components"] == {"disk": "up"}


def test_what_is_installed_checks(asked: Callable[..., str], tmp_path: Path) -> None:
    url = {"CQRS_HEALTH_CHECKS__DISK__URL": f"disk://{tmp_path}"}
    report = json.loads(asked("check", "--json", **url))
    assert (report["status"], report["components"][0]["name"]) == ("healthy", "disk")


def test_what_is_installed_exports(asked: Callable[..., str], tmp_path: Path) -> None:
    asked("export", "schemas")
    asked("export", "kubernetes")
    schemas = {path.name for path in (REPOSITORY / "schemas").iterdir()}
    assert {path.name for path in (tmp_path / "schemas").iterdir()} == schemas
    assert list((tmp_path / "deploy").iterdir())
