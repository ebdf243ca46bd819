"""A registry against a model that is too simple to be wrong, through any sequence of calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cqrs_ddd_health import (
    CheckOptions,
    CheckResult,
    DuplicateNameError,
    HealthRegistry,
    HealthReport,
    UnknownNameError,
)
from cqrs_ddd_health.domain.contract import components_dict, ready_dict, status_dict
from cqrs_ddd_health.testing import FakeClock
from tests.core.actors import Told
from tests.examples import examples

TIMEOUT = 60.0

names = st.sampled_from(["alpha", "beta", "gamma"])
instances = st.sampled_from([None, "one", "two"])
states = st.sampled_from(["up", "degraded", "down"])
thresholds = st.integers(1, 3)
Key = tuple[str, str]


@dataclass
class ModelCheck:
    """Where a check stands, by counting alone."""

    told: Told
    critical: bool
    failure_threshold: int
    success_threshold: int
    saying: str
    state: str = "unknown"
    failures: int = 0
    successes: int = 0

    def run(self) -> None:
        if self.saying == "down":
            self.failures, self.successes = self.failures + 1, 0
            if self.failures >= self.failure_threshold or self.state == "down":
                self.state = "down"
            else:
                self.state = "degraded"
            return
        self.failures = 0
        if self.state == "down":
            self.successes += 1
            if self.successes < self.success_threshold:
                return
        self.state, self.successes = self.saying, 0


@dataclass
class Expected:
    min_instances: int
    critical: bool
    missing_at: float


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.registry = HealthRegistry(TIMEOUT, clock=self.clock)
        self.checks: dict[str, ModelCheck] = {}
        self.beats: dict[str, dict[str | None, tuple[float, float]]] = {}
        self.expected: dict[str, Expected] = {}
        self.draining = False

    @initialize()
    def look_at_nothing(self) -> None:
        self.report()

    # --- what is done to both

    @rule(
        name=names,
        saying=states,
        critical=st.booleans(),
        wanted=st.tuples(thresholds, thresholds),
        replace=st.booleans(),
    )
    def register(
        self,
        name: str,
        saying: str,
        critical: bool,
        wanted: tuple[int, int],
        replace: bool,
    ) -> None:
        failure_threshold, success_threshold = wanted
        told = Told(CheckResult.model_validate({"state": saying}))
        options = CheckOptions(
            failure_threshold=failure_threshold, success_threshold=success_threshold
        )
        if name in self.checks and not replace:
            with pytest.raises(DuplicateNameError):
                self.registry.register(name, told, options=options, replace=False)
            return
        self.registry.register(name, told, critical=critical, options=options, replace=replace)
        self.checks[name] = ModelCheck(told, critical, failure_threshold, success_threshold, saying)

    @rule(name=names)
    def unregister(self, name: str) -> None:
        if self.checks.pop(name, None) is None:
            with pytest.raises(UnknownNameError):
                self.registry.unregister(name)
        else:
            self.registry.unregister(name)

    @rule(name=names, saying=states)
    def change(self, name: str, saying: str) -> None:
        if name in self.checks:
            self.checks[name].saying = saying
            self.checks[name].told.outcome = CheckResult.model_validate({"state": saying})

    @rule(name=names, sayings=st.lists(states, min_size=2, max_size=8))
    def go_through(self, name: str, sayings: list[str]) -> None:
        for saying in sayings:
            self.change(name, saying)
            self.report()

    @rule(name=names, instance=instances, timeout=st.sampled_from([None, 0.0, 10.0, 600.0]))
    def heartbeat(self, name: str, instance: str | None, timeout: float | None) -> None:
        self.registry.heartbeat(name, instance=instance, timeout_seconds=timeout)
        said = TIMEOUT if timeout is None else timeout
        self.beats.setdefault(name, {})[instance] = (self.clock.monotonic(), said)

    @rule(
        name=names,
        least=st.integers(1, 3),
        critical=st.booleans(),
        grace=st.sampled_from([0.0, 30.0]),
    )
    def expect(self, name: str, least: int, critical: bool, grace: float) -> None:
        self.registry.expect(name, min_instances=least, critical=critical, grace_seconds=grace)
        self.expected[name] = Expected(least, critical, self.clock.monotonic() + grace)

    @rule(name=names)
    def retire(self, name: str) -> None:
        self.registry.retire(name)
        self.beats.pop(name, None)
        self.expected.pop(name, None)

    @rule(name=names, instance=st.sampled_from(["one", "two"]))
    def retire_one(self, name: str, instance: str) -> None:
        self.registry.retire(name, instance=instance)
        self.beats.get(name, {}).pop(instance, None)
        if not self.beats.get(name):
            self.beats.pop(name, None)

    @rule(seconds=st.sampled_from([0.0, 5.0, 31.0, 61.0, 1_000.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-86_400.0, 86_400.0]))
    def jump(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule()
    def drain(self) -> None:
        self.registry.drain()
        self.draining = True

    # --- what both say

    @rule()
    def report(self) -> None:
        report = self.runner.run(self.registry.report())
        for check in self.checks.values():
            check.run()
        self.compare(report)

    @rule(max_age=st.sampled_from([1e9]))
    def report_again(self, max_age: float) -> None:
        """Nothing that was judged before is asked again."""
        for check in self.checks.values():
            if check.state == "unknown":
                check.run()
        self.compare(self.runner.run(self.registry.report(max_age_seconds=max_age)))

    def compare(self, report: HealthReport) -> None:
        rows = {(row.name, row.kind): row for row in report.components}
        assert len(rows) == len(report.components)
        states, criticals = self.model_states(), self.model_criticals()
        assert {key: row.state for key, row in rows.items()} == states
        assert {key: row.critical for key, row in rows.items()} == criticals
        for name, check in self.checks.items():
            assert rows[name, "check"].consecutive_failures == check.failures
        down = {key for key, state in states.items() if state == "down"}
        overall = "healthy" if set(states.values()) <= {"up"} else "degraded"
        assert report.status == ("unhealthy" if any(criticals[key] for key in down) else overall)
        self.compare_views(report, down)

    def compare_views(self, report: HealthReport, down: set[Key]) -> None:
        components = {name: "up" for name, _ in self.model_states()}
        components |= {name: "down" for name, _ in down}
        assert components_dict(report) == components
        shown = status_dict(report)
        assert shown["components"] == components
        assert shown["status"] == ("unhealthy" if down else "healthy")
        workers = self.beats.keys() | self.expected.keys()
        assert set(shown["heartbeats"]) == workers
        assert {name for name, at in shown["heartbeats"].items() if at} == self.beats.keys()
        assert ready_dict(report)["ready"] == (not down and not self.draining)
        assert len(report.heartbeats) == sum(
            max(len(self.beats.get(name, ())), 1) for name in workers
        )

    def model_states(self) -> dict[Key, str]:
        states = {(name, "check"): check.state for name, check in self.checks.items()}
        for name in self.beats.keys() | self.expected.keys():
            states[name, "worker"] = self.model_worker(name)
        return states

    def model_worker(self, name: str) -> str:
        now = self.clock.monotonic()
        beats = self.beats.get(name, {}).values()
        fresh = sum(timeout > 0 and now - at <= timeout for at, timeout in beats)
        least = self.expected[name].min_instances if name in self.expected else 1
        return "up" if fresh >= least else "down"

    def model_criticals(self) -> dict[Key, bool]:
        criticals = {(name, "check"): check.critical for name, check in self.checks.items()}
        for name in self.beats.keys() | self.expected.keys():
            expected = self.expected.get(name)
            criticals[name, "worker"] = expected is None or expected.critical
        return criticals

    def teardown(self) -> None:
        try:
            components = self.runner.run(self.registry.check_all())
            status = self.runner.run(self.registry.status())
            assert status["components"].keys() == components.keys()
        finally:
            self.runner.close()


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=examples(80), stateful_step_count=30)
