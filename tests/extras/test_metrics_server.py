"""A server of metrics for an application without HTTP: what it answers, and how it ends."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Counter

from cqrs_ddd_health import (
    CheckOptions,
    DuplicateNameError,
    HealthRegistry,
    HealthSettings,
    InvalidOptionError,
    ServerError,
)
from cqrs_ddd_health.prometheus import HealthCollector, MetricsServer, start_metrics_server
from cqrs_ddd_health.testing import FakeCheck
from tests.core.actors import answer_of_script, eventually

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    asked = urllib.request.Request(server.url + path, method=method)
    try:
        with OPENER.open(asked, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def registry() -> HealthRegistry:
    return HealthRegistry(settings=HealthSettings(detail="minimal", http_max_age_seconds=0))


@pytest.fixture
def server(registry: HealthRegistry) -> Iterator[MetricsServer]:
    with start_metrics_server(registry, 0) as server:
        yield server


def test_it_answers_at_once_with_the_metrics_and_nothing_else(
    registry: HealthRegistry, server: MetricsServer
) -> None:
    registry.register("database", lambda: False)
    code, body = get(server)
    assert code == 200
    assert 'cqrs_health_component_up{component="database"} 0.0' in body.splitlines()
    assert get(server, method="HEAD") == (200, "")
    assert get(server, method="DELETE")[0] == 405
    for path in ("/", "/health", "/health/live", "/metrics/more"):
        assert get(server, path)[0] == 404
    assert "process_" not in body
    assert "python_" not in body


async def test_checks_are_refreshed_meanwhile_on_the_loop_of_the_application(
    registry: HealthRegistry,
) -> None:
    threads: list[threading.Thread] = []

    async def check() -> bool:
        threads.append(threading.current_thread())
        return True

    options = CheckOptions(initial_delay_seconds=0, interval_seconds=0.01)
    registry.register("database", check, options=options)
    async with start_metrics_server(registry, 0):
        assert registry.refreshing
        await eventually(lambda: len(threads) >= 3)
    assert set(threads) == {threading.current_thread()}
    assert not registry.refreshing


def test_a_scrape_starts_no_check_that_is_refreshed(registry: HealthRegistry) -> None:
    check = FakeCheck()
    options = CheckOptions(initial_delay_seconds=3_600, interval_seconds=3_600)
    registry.register("database", check, options=options)
    with start_metrics_server(registry, 0) as server:
        for _ in range(4):  # the first one asks what nobody has asked yet
            assert "cqrs_health_status 0.0" in get(server)[1]
    assert check.calls == 1


def test_what_else_is_collected_is_answered_too(registry: HealthRegistry) -> None:
    where = CollectorRegistry()
    Counter("orders", "of the application", registry=where).inc()
    for _ in range(2):  # the second finds the collector that the first has registered
        with start_metrics_server(registry, 0, collector_registry=where) as server:
            body = get(server)[1]
        assert "orders_total 1.0" in body
        assert body.count("# TYPE cqrs_health_status gauge") == 1


def test_names_that_are_taken_are_refused(registry: HealthRegistry) -> None:
    where = CollectorRegistry()
    HealthCollector(HealthRegistry(settings=HealthSettings()), where)
    with pytest.raises(DuplicateNameError, match="HealthCollector of"):
        start_metrics_server(registry, 0, collector_registry=where)


@pytest.mark.parametrize("port", [-1, 65_536, "9000", 1.5])
def test_a_port_that_is_none_is_refused(registry: HealthRegistry, port: object) -> None:
    with pytest.raises(InvalidOptionError, match="port"):
        start_metrics_server(registry, cast("int", port))


def test_a_port_that_is_taken_is_refused(registry: HealthRegistry, server: MetricsServer) -> None:
    with pytest.raises(ServerError, match="choose another port"):
        start_metrics_server(registry, server.port)


def test_it_ends_and_may_start_again(registry: HealthRegistry) -> None:
    server = start_metrics_server(registry, 0)
    with pytest.raises(ServerError, match="already"):
        server.start()
    server.close()
    server.close()
    with pytest.raises(ServerError, match="listens nowhere"), server:
        pass
    with pytest.raises(ServerError, match="listens nowhere"):
        _ = server.url
    server.start()
    assert get(server)[0] == 200
    server.close()
    assert not [thread for thread in threading.enumerate() if "health-server" in thread.name]


async def test_it_ends_with_an_async_block(registry: HealthRegistry) -> None:
    async with start_metrics_server(registry, 0) as server:
        assert (await asyncio.to_thread(get, server))[0] == 200
    with pytest.raises(ServerError):
        _ = server.port


_DROPPED = """
import gc, urllib.request
from cqrs_ddd_health import HealthRegistry
from cqrs_ddd_health.prometheus import start_metrics_server
port = start_metrics_server(HealthRegistry(), 0).port
gc.collect()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(f"http://127.0.0.1:{port}/metrics").status)
"""


def test_nobody_has_to_keep_it_and_the_process_ends() -> None:
    assert answer_of_script(_DROPPED) == "200"


def test_a_port_of_the_contract_is_the_default() -> None:
    assert start_metrics_server.__defaults__ == (9000, "127.0.0.1")
