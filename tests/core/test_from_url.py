"""Checks from URLs: what is refused, and in what words; none of them shows a secret."""

from __future__ import annotations

import asyncio
import sys
import types

import pytest

from cqrs_ddd_health import CheckResult, HealthRegistry, HealthSettings, SettingsError
from cqrs_ddd_health.checks.connected import ConnectedCheck, ConnectedClient
from cqrs_ddd_health.checks.from_url import check_from_url
from cqrs_ddd_health.errors import InvalidOptionError
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import row_of

SECRET = "hunter2"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What stands in a module of the application."""
    module = types.ModuleType("an_app")
    monkeypatch.setitem(sys.modules, "an_app", module)
    return vars(module)


def refused(url: str) -> str:
    with pytest.raises((InvalidOptionError, ImportError)) as caught:
        check_from_url(url)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def from_settings(**urls: str) -> HealthRegistry:
    checks = {name: {"url": url} for name, url in urls.items()}
    return HealthRegistry(settings=HealthSettings.model_validate({"checks": checks}))


# --- what is refused


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "it is empty"),
        ("://", "it has no scheme; it may be one of postgresql, postgres, mysql"),
        ("tcp+tls://host:5", "there is no check for tcp+tls://, only a database has a +tls"),
        (SECRET, "it has no scheme"),
        (f"{SECRET}:pass@host", "it has no scheme"),
        ("gopher://host", "there is no check for gopher://; it may be one of"),
        ("posgresql+asyncpg://host/db", "for posgresql+asyncpg://, did you mean postgresql?"),
        ("tcp:host:5", "a tcp URL begins with tcp://"),
        ("tcp://", "it names no host: tcp://HOST"),
        ("tcp://host", "it must be tcp://HOST:PORT"),
        ("tcp://host:5/path", "it must be tcp://HOST:PORT"),
        ("tcp://:5432", "it names no host"),
        ("tcp://host:0", "its port must be a number from 1 to 65535"),
        ("tcp://host:65536", "its port must be a number from 1 to 65535"),
        (f"tcp://host:{SECRET}", "its port must be a number from 1 to 65535"),
        ("tcp://[::1", "the host of a tcp URL is malformed"),
        ("tcp://host:5?colour=red", "a tcp URL has no such argument"),
        ("tcp://ho st:5", "it must not have blanks or control characters"),
        ("tcp://host\n:5", "it must not have blanks or control characters"),
        ("http://", "it names no host"),
        ("http://host:99999/", "its port must be"),
        ("http://host?expect=hello", "expect must be"),
        ("http://host?expct=200", "an argument of it looks like expect, did you mean that?"),
        (f"http://user:{SECRET}#@host", "percent-encode"),
        (f"http://user:{SECRET}@@host", "percent-encode"),
        (f"http://user:{SECRET}%@host", "percent-encode"),
        ("disk://tmp", "it must be disk:///PATH, with three slashes"),
        ("disk://", "it must be disk:///PATH"),
        ("disk:///tmp?min_free=1GBB", "min_free must be a size such as 500MB or 1GiB"),
        ("disk:///tmp?min_fre=1GB", "a disk URL has no such argument, did you mean min_free?"),
        ("disk:///tmp?path=1GB", "a disk URL has no such argument, it may be min_free"),
        ("disk:///tmp?min_free=0", "min_free_bytes must be a positive"),
        ("memory://host", "it must be memory://?min_available=SIZE"),
        ("memory:///path", "it must be memory://?min_available=SIZE"),
        ("memory://?min_available=lots", "min_available must be a size"),
        ("module:", "it must be module:package.module:attribute"),
        ("module:an_app", "it must be module:package.module:attribute"),
        ("module:no_such_app:check", "no check at 'no_such_app:check': No module named"),
        ("module:an_app:nothing", "no check at 'an_app:nothing': module 'an_app' has no"),
        ("module:an_app:number", "'an_app:number' cannot be called, it is a int"),
        ("module:.:check", "importing '.' failed: TypeError"),
    ],
)
def test_a_url_that_makes_no_check(app: dict[str, object], url: str, words: str) -> None:
    app["number"] = 1
    assert words in refused(url)


def test_a_module_that_fails_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise RuntimeError(f"cannot connect with {SECRET}")

    monkeypatch.setattr("cqrs_ddd_health.checks.from_url.import_module", fail)
    assert refused("module:broken:check") == "importing 'broken' failed: RuntimeError"


def test_a_module_that_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cqrs_ddd_health.checks.from_url.import_module", sys.exit)
    assert refused("module:script:check") == "importing 'script' failed: SystemExit"


def test_what_a_module_says_of_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ImportError(f"no driver for tcp://user:{SECRET}@host, it said {SECRET}")

    monkeypatch.setattr("cqrs_ddd_health.checks.from_url.import_module", fail)
    registry = from_settings(db=f"tcp://user:{SECRET}@host:5", own="module:broken:check")
    with pytest.raises(SettingsError, match=r"no driver for tcp://\*\*\*@host, it said \*\*\*"):
        registry.register_from_settings()


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("postgresql+asyncpg://host/db", "sqlalchemy", "sqlalchemy"),
        ("redis://host", "redis", "redis"),
        ("amqp://host", "aiormq", "amqp"),
        ("nats://host", "nats", "nats"),
        ("kafka://host", "aiokafka", "kafka"),
        ("memory://", "psutil", "psutil"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch, url: str, library: str, extra: str
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"pip install 'cqrs-ddd-health[{extra}]'" in refused(url)


def test_every_bad_variable_is_named_and_nothing_is_registered() -> None:
    registry = from_settings(good="tcp://host:5", bad="tcp://host", worse=f"tcp://{SECRET}@")
    with pytest.raises(SettingsError) as caught:
        registry.register_from_settings()
    assert str(caught.value) == (
        "CQRS_HEALTH_CHECKS__BAD__URL: it must be tcp://HOST:PORT; "
        "CQRS_HEALTH_CHECKS__WORSE__URL: it names no host: tcp://HOST"
    )
    assert caught.value.__cause__ is None
    assert registry.names == ()


# --- what is registered


@pytest.mark.parametrize("attribute", ["check", "nested.check", "typed"])
async def test_any_check_of_the_application(app: dict[str, object], attribute: str) -> None:
    app["check"] = lambda: True
    app["nested"] = types.SimpleNamespace(check=app["check"])
    app["typed"] = FakeCheck()
    registry = from_settings(own=f"module:an_app:{attribute}")
    assert registry.register_from_settings() == ("own",)
    assert row_of(await registry.report(), "own").state == "up"


def needs_something(needed: object) -> bool:
    return bool(needed)


@pytest.mark.parametrize("check", [FakeCheck, needs_something])
def test_what_cannot_be_a_check_is_refused_under_its_name(
    app: dict[str, object], check: object
) -> None:
    app["check"] = check
    with pytest.raises(SettingsError, match=r"CQRS_HEALTH_CHECKS__OWN__URL: check 'own' "):
        from_settings(own="module:an_app:check").register_from_settings()


async def test_disk_space(tmp_path: object) -> None:
    registry = from_settings(
        enough=f"disk://{tmp_path}?min_free=1kB",
        little=f"disk://{tmp_path}?min_free=900PiB",
        default=f"disk://{tmp_path}",
    )
    registry.register_from_settings()
    report = await registry.report()
    assert row_of(report, "enough").state == "up"
    assert row_of(report, "little").state == "down"


async def test_registering_again_makes_nothing_twice(app: dict[str, object]) -> None:
    app["check"] = FakeCheck()
    registry = from_settings(own="module:an_app:check")
    assert registry.register_from_settings() == ("own",)
    registry.register("own", FakeCheck(CheckResult(state="down")))
    assert registry.register_from_settings() == ()
    assert row_of(await registry.report(), "own").state == "down"


async def test_the_environment_takes_the_name_over_and_leaves_the_options_of_code(
    app: dict[str, object],
) -> None:
    app["check"] = FakeCheck()
    registry = from_settings(orders_db="module:an_app:check")
    registry.register("Orders-DB", FakeCheck(CheckResult(state="down")), critical=False)
    assert registry.register_from_settings() == ("Orders-DB",)
    row = row_of(await registry.report(), "Orders-DB")
    assert (row.state, row.critical) == ("up", False)


def test_what_is_switched_off_is_not_even_made() -> None:
    checks = {"db": {"url": "posgresql://host", "enabled": False}}
    registry = HealthRegistry(settings=HealthSettings.model_validate({"checks": checks}))
    assert registry.register_from_settings() == ("db",)
    assert registry.is_empty
    stand_in = registry._engine.configured._made["db"]
    assert callable(stand_in)
    with pytest.raises(AssertionError, match="switched off"):
        stand_in()


# --- secrets


def test_settings_never_show_a_url() -> None:
    settings = from_settings(own=f"tcp://user:{SECRET}@host:5").settings
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.checks)):
        assert SECRET not in text


async def test_a_forked_child_connects_anew() -> None:
    registry = from_settings(own="tcp://host:5", disk="disk:///")
    opened: list[int] = []

    async def connect() -> ConnectedClient:
        opened.append(1)
        return ConnectedClient(FakeCheck(), asyncio.Event().wait)

    connected = ConnectedCheck(connect)
    registry._engine.configured._made["own"] = connected
    registry.register("own", connected)
    await registry.report()
    registry._engine.begin_process()
    await registry.report()
    assert len(opened) == 2
