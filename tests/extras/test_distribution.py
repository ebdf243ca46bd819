"""What is published: the sdist, and the wheel that is built from it, opened."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

import cqrs_ddd_health

REPOSITORY = Path(__file__).parents[2]
RESOURCES = {"psutil", "alembic"}
BROKERS = {"amqp", "nats", "mqtt", "kafka"}
EXTRAS = {"sqlalchemy", "redis", "fastapi", "prometheus", *BROKERS, *RESOURCES, "all"}
SDIST_TOP = {
    ".gitignore",  # hatchling adds it, and builds with it
    "CHANGELOG.md",
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
    done = subprocess.run(
        [*command, str(REPOSITORY)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
    assert b"<html" in in_wheel["cqrs_ddd_health/web/page.html"]


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
