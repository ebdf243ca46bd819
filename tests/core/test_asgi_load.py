"""What many requests cost: one flight an age, bounded waiting, nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from cqrs_ddd_health import HealthRegistry, HealthSettings, InvalidOptionError
from cqrs_ddd_health.testing import FakeClock
from cqrs_ddd_health.web.asgi import HealthApp, health_app
from tests.core.actors import SHORT, Gated, Stubborn, ThreadedLoop, Told, eventually, slot_of
from tests.core.asgi_client import Response, request


def registry_of(
    *, max_age_seconds: float = 60, deadline_seconds: float = 60, clock: FakeClock | None = None
) -> HealthRegistry:
    settings = HealthSettings(
        http_max_age_seconds=max_age_seconds, http_deadline_seconds=deadline_seconds
    )
    return HealthRegistry(settings=settings, clock=clock)


async def ready(app: HealthApp) -> Response:
    return await request(app, "/health/ready")


async def test_a_thousand_requests_at_once_cause_one_flight() -> None:
    registry = registry_of()
    gated = registry.register("check", Gated())
    app = health_app(registry)
    asking = [asyncio.create_task(ready(app)) for _ in range(1_000)]
    await eventually(lambda: gated.calls == 1)
    await asyncio.sleep(SHORT)
    gated.gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.code for answer in answers} == {200}
    assert gated.calls == 1


async def test_requests_of_all_paths_share_one_flight() -> None:
    registry = registry_of()
    check = registry.register("check", Told(), probes=("ready", "live", "startup"))
    app = health_app(registry)
    paths = ["", "/live", "/ready", "/startup", "/report", "/report/check", "/page"]
    await asyncio.gather(*(request(app, f"/health{path}") for path in paths))
    for path in paths:
        await request(app, f"/health{path}")
    assert check.calls == 1


async def test_an_answer_is_made_anew_when_it_is_too_old() -> None:
    registry = registry_of(max_age_seconds=0.05)
    check = registry.register("check", Told())
    app = health_app(registry)
    assert (await ready(app)).code == 200
    check.outcome = False
    await asyncio.sleep(0.06)
    assert (await ready(app)).code == 503
    assert check.calls == 2


async def test_an_answer_made_of_an_old_outcome_is_kept_only_for_what_is_left_of_its_age() -> None:
    registry = registry_of(max_age_seconds=0.3)
    check = registry.register("check", Told())
    app = health_app(registry)
    await registry.report()
    await asyncio.sleep(0.2)
    assert (await ready(app)).code == 200
    assert check.calls == 1
    await asyncio.sleep(0.11)
    assert (await ready(app)).code == 200
    assert check.calls == 2


async def test_with_a_max_age_of_nothing_every_request_asks_anew() -> None:
    registry = registry_of(max_age_seconds=0)
    check = registry.register("check", Told())
    app = health_app(registry)
    for _ in range(3):
        await ready(app)
    assert check.calls == 3


async def test_a_wall_clock_that_is_set_back_makes_no_answer_last_longer() -> None:
    clock = FakeClock()
    registry = registry_of(max_age_seconds=0.05, clock=clock)
    check = registry.register("check", Told())
    app = health_app(registry)
    await registry.report()
    clock.jump(-86_400)
    await ready(app)
    clock.advance(1)
    await asyncio.sleep(0.06)
    await ready(app)
    assert check.calls == 2


async def test_the_first_requester_may_hang_up() -> None:
    registry = registry_of()
    gated = registry.register("check", Gated())
    app = health_app(registry)
    first = asyncio.create_task(ready(app))
    await eventually(lambda: gated.calls == 1)
    others = [asyncio.create_task(ready(app)) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gated.gate.set()
    assert {answer.code for answer in await asyncio.gather(*others)} == {200}
    assert gated.calls == 1


async def test_requesters_that_hang_up_leave_nothing_behind() -> None:
    registry = registry_of(max_age_seconds=0)
    gated = registry.register("check", Gated())
    app = health_app(registry)
    asking = [asyncio.create_task(ready(app)) for _ in range(100)]
    await eventually(lambda: gated.calls == 1)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)
    assert (await ready(app)).code == 200
    here = app._responder._answers._loops[asyncio.get_running_loop()]
    await eventually(lambda: not here.tasks)
    assert not here.waiting


async def test_a_hung_check_is_pending_within_the_deadline_and_then_its_outcome() -> None:
    registry = registry_of(max_age_seconds=0, deadline_seconds=SHORT)
    stubborn = registry.register("check", Stubborn(), timeout_seconds=5 * SHORT)
    app = health_app(registry)
    kinds: list[object] = []
    while "hung" not in kinds:
        answer = await request(app, "/health/report")
        assert answer.code == 503
        kinds.append(answer.json["components"][0]["failure"]["kind"])  # type: ignore[index]
    assert kinds[0] == "pending"
    assert stubborn.calls == 1
    assert (await request(app, "/health/live")).code == 200
    stubborn.released.set()
    await eventually(lambda: registry.hung_checks == 0)


async def test_a_slow_check_shows_its_last_outcome_at_the_deadline() -> None:
    registry = registry_of(max_age_seconds=0, deadline_seconds=SHORT)
    gated = registry.register("check", Gated())
    gated.gate.set()
    app = health_app(registry)
    assert (await ready(app)).code == 200
    gated.gate.clear()
    assert (await ready(app)).code == 200
    gated.gate.set()
    await eventually(lambda: slot_of(registry).flight is None)


async def test_ready_does_not_wait_for_what_does_not_gate_it() -> None:
    registry = registry_of()
    gated = registry.register("optional", Gated(), critical=False)
    registry.register("check", Told())
    assert (await ready(health_app(registry))).code == 200
    assert gated.calls == 0


async def test_what_goes_wrong_in_making_an_answer_is_raised_to_all_who_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = registry_of()
    app = health_app(registry)

    async def broken(**_arguments: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "report", broken)
        answers = await asyncio.gather(ready(app), ready(app), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    assert (await ready(app)).code == 200


async def test_when_the_loop_ends_those_who_wait_are_cancelled_with_it() -> None:
    registry = registry_of()
    gated = registry.register("check", Gated())
    app = health_app(registry)
    asking = asyncio.create_task(ready(app))
    await eventually(lambda: gated.calls == 1)
    for task in (*app._responder._answers._loops[asyncio.get_running_loop()].tasks, asking):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gated.gate.set()
    assert (await ready(app)).code == 200


def test_one_application_serves_several_loops() -> None:
    registry = registry_of()
    check = registry.register("check", Told())
    app = health_app(registry)
    with ThreadedLoop() as one, ThreadedLoop() as other:
        codes = [
            asyncio.run_coroutine_threadsafe(ready(app), where.loop).result(10).code
            for where in (one, other, one)
        ]
    assert (codes, check.calls) == ([200, 200, 200], 1)


async def test_a_name_that_is_not_there_asks_nobody_again() -> None:
    registry = HealthRegistry()
    check = registry.register("check", Told())
    app = health_app(registry)
    for name in ("check", "nobody", "x" * 1_000, "nobody else", "check"):
        assert (await request(app, f"/health/report/{name}")).code in {200, 404}
    assert check.calls == 1
    assert len(app._responder.reports._kept._kept) == 1


@pytest.mark.parametrize("prefix", ["health", "health/", "x"])
def test_a_prefix_that_could_match_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidOptionError, match="slash"):
        health_app(HealthRegistry(), prefix=prefix)
