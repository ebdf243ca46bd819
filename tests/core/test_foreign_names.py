"""The search for private names of other libraries sees each way to use one."""

from __future__ import annotations

import pytest

from .foreign_names import defined_names, foreign_private_names

OWN = """
class Own:
    __slots__ = ("_kept",)

    def __init__(self, other: Own) -> None:
        self._state = other._state
        self._method()

    def _method(self) -> None:
        cast("_Text", self._state)._replace(done=True)
"""


@pytest.mark.parametrize(
    "line",
    [
        "client._pool",
        "client._pool.size",
        "client._pool = 1",
        "make()._pool()",
        "self._pool",
        "getattr(client, '_pool', None)",
        "hasattr(client, '_pool')",
        "object.__setattr__(client, '_pool', 1)",
        "vars(client).get('_pool')",
        "vars(client)['_pool']",
        "client.__dict__['_pool']",
        "operator.attrgetter('engine._pool.size')",
        "methodcaller('_pool')",
        "Client(_pool=1)",
        "import client._pool",
        "from client import _pool",
        "from client._pool import size",
        "import_module('client._pool')",
        "def f():\n    return getattr(client, '_pool')",
    ],
)
def test_a_private_name_is_found(line: str) -> None:
    assert foreign_private_names(line) == {"_pool"}


def test_a_library_s_own_double_underscores_are_found() -> None:
    found = foreign_private_names("Model.__dict__['__lib_fields_set__']; Model.__lib_other__")
    assert found == {"__lib_fields_set__", "__lib_other__"}


@pytest.mark.parametrize(
    "line",
    [
        OWN,
        "from . import _own",
        "from .sibling import _own",
        "from cqrs_ddd_health.sibling import _own",
        "import _thread",
        "client.__class__; client.__init_subclass__",
        "row._asdict(); row._fields",
        "for _ in rows: pass",
        "getattr(client, name)",
        "values[0], values['public']",
        "text = '_not_looked_up'",
    ],
)
def test_what_is_none_is_not(line: str) -> None:
    assert foreign_private_names(line) == set()


def test_what_another_module_defines_may_be_inherited() -> None:
    source = "class Heir(Parent):\n    def f(self): return self._state"
    assert foreign_private_names(source) == {"_state"}
    assert foreign_private_names(source, defined_names(OWN)) == set()


def test_it_is_not_another_object_s_because_another_module_defines_it() -> None:
    assert foreign_private_names("client._state", defined_names(OWN)) == {"_state"}
