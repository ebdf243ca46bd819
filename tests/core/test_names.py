"""What may be a name, in code and in a model, and how the environment spells it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cqrs_ddd_health import HealthRegistry, HealthSettings, InvalidNameError
from cqrs_ddd_health.domain.names import MAX_NAME_LENGTH, Name, fold, require_name

from .strategies import names

NAME: TypeAdapter[str] = TypeAdapter(Name)
BAD: list[tuple[object, str]] = [
    ("", "empty or blank"),
    ("  \t", "empty or blank"),
    ("\u3000", "empty or blank"),
    (" \ufeff", "empty or blank"),
    ("\u200b", "empty or blank"),
    ("\u00ad\u2060 \u180e", "empty or blank"),
    ("x" * 129, "at most 128 characters, not 129"),
    ("x" * 10_000_000, "at most 128 characters"),
    *(
        (f"a{char}b", "control, line-breaking or bidirectional")
        for char in "\0\n\r\t\x1b\x7f\x85\u2028\u2029\u061c\u200e\u200f\u202a\u202e\u2066\u2069"
    ),
    ("a\ud800b", "control, line-breaking"),
]
NOT_TEXT: list[object] = [None, 1, b"name", ["name"], ...]


@given(names)
def test_any_printable_text_is_a_name(name: str) -> None:
    assert require_name(name, "check") == NAME.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    ['a"b', "<b>a</b>", "it's", "a{b}", "a\\b", "é", "🩺", "a b", "/", "👩\u200d⚕️", "a\u00adb"],
)
def test_quotes_and_markup_are_legal(name: str) -> None:
    assert require_name(name, "check") == name


@pytest.mark.parametrize(("name", "problem"), BAD, ids=lambda value: ascii(value)[:20])
def test_a_bad_name_is_refused_by_code_and_by_models(name: str, problem: str) -> None:
    with pytest.raises(InvalidNameError, match=problem):
        require_name(name, "check")
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


@pytest.mark.parametrize("name", NOT_TEXT, ids=repr)
def test_what_is_no_text_is_no_name(name: object) -> None:
    with pytest.raises(InvalidNameError, match="must be a string, got an instance of"):
        require_name(name, "worker")


@given(st.text(max_size=300))
def test_code_and_models_agree_on_names(name: str) -> None:
    try:
        require_name(name, "check")
    except InvalidNameError:
        with pytest.raises(ValidationError):
            NAME.validate_python(name)
    else:
        assert NAME.validate_python(name) == name


@given(st.text(max_size=2_000))
def test_a_refusal_is_short_and_printable(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        require_name(f"{name}\n", "check")
    shown = str(caught.value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 250


def test_the_longest_name_is_128_characters() -> None:
    assert MAX_NAME_LENGTH == 128
    assert require_name("🩺" * 128, "check") == "🩺" * 128


@given(names)
def test_a_folded_name_is_one_that_the_environment_can_spell(name: str) -> None:
    folded = fold(name)
    assert folded == name or re.fullmatch(r"[^\W_]+(_[^\W_]+)*", folded)
    assert fold(folded) == folded


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Orders-DB.2", "orders_db_2"),
        ("db (primary)", "db_primary"),
        ("orders--db_", "orders_db"),
        ("数据库", "数据库"),
        ("!?", "!?"),
    ],
)
def test_a_name_folds_to_what_a_variable_can_be_called(name: str, folded: str) -> None:
    assert fold(name) == folded


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 129])
def test_every_door_of_the_registry_refuses_bad_names(name: str) -> None:
    registry = HealthRegistry(settings=HealthSettings())
    for enter in (
        lambda: registry.register(name, lambda: True),
        lambda: registry.register(name),
        lambda: registry.heartbeat(name),
        lambda: registry.heartbeat("worker", instance=name),
        lambda: registry.heartbeat("worker", phase=name),
        lambda: registry.expect(name),
        lambda: registry.retire(name),
    ):
        with pytest.raises(InvalidNameError, match="the name of a"):
            enter()


class Odd(str):
    """A text that ends the process once it is compared: after it was registered."""

    __slots__ = ()
    kept = False

    def __hash__(self) -> int:
        if Odd.kept:
            raise SystemExit(3)
        return str.__hash__(self)

    def __eq__(self, other: object) -> bool:
        if Odd.kept:
            raise SystemExit(3)
        return str.__eq__(self, other)


async def test_names_and_counts_are_kept_as_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = HealthRegistry(settings=HealthSettings())
    registry.register(Odd("check"), lambda: True, tags=[Odd("tag")])
    registry.expect(Odd("worker"))
    registry.heartbeat(
        Odd("worker"), instance=Odd("one"), phase=Odd("busy"), progress=type("Count", (int,), {})(3)
    )
    monkeypatch.setattr(Odd, "kept", True)
    report = await registry.report()
    assert [row.name for row in report.components] == ["check", "worker"]
    assert {type(name) for name in (*registry.names, *registry.tags)} == {str}
    (record,) = report.heartbeats
    assert [type(value) for value in (record.instance, record.phase, record.progress)] == [
        str,
        str,
        int,
    ]
    registry.unregister("check")
