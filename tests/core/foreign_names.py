"""Which private names of other libraries a source uses, as far as its syntax tells.

A name is private that begins with one underscore, or with two and is none of Python's own. It is
another library's where the source that uses it defines no such name; on `self` and `cls`, where no
source of the package does: a class may inherit it from another module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

__all__ = ["defined_names", "foreign_private_names"]

_PRIVATE = re.compile(r"_[A-Za-z]\w*|__[a-z]+_\w*[a-z]__")
_DOCUMENTED = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # of named tuples
_PYTHONS_OWN = {
    "__class_getitem__",
    "__init_subclass__",
    "__match_args__",
    "__mro_entries__",
    "__reduce_ex__",
    "__set_name__",
    "__type_params__",
}
_MODULES = {"_thread"}  # the standard library documents it
_BY_NAME = {
    "__delattr__",
    "__getattribute__",
    "__setattr__",
    "attrgetter",
    "delattr",
    "get",
    "getattr",
    "hasattr",
    "import_module",
    "methodcaller",
    "pop",
    "setattr",
}


def defined_names(source: str) -> set[str]:
    """Return every name that a source gives to something of its own."""
    return {name for node in ast.walk(ast.parse(source)) for name in _defined_by(node)}


def foreign_private_names(source: str, inherited: Collection[str] = ()) -> set[str]:
    """Return the private names of other libraries that a source uses.

    `inherited` are the names that other sources of its package define.
    """
    own = defined_names(source)
    on_itself = own.union(inherited)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            is_own = _is_self(node.value)
            found |= _private([node.attr]) - (on_itself if is_own else own)
        else:
            found |= _private(_used_by(node))
    return found


def _defined_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and _is_self(node.value):
        yield from [node.attr] if isinstance(node.ctx, ast.Store) else []


def _used_by(node: ast.AST) -> Iterator[str]:
    """Return the names that a node looks up otherwise than as an attribute."""
    if isinstance(node, ast.Call):
        yield from (word.arg for word in node.keywords if word.arg is not None)
        if ast.unparse(node.func).rpartition(".")[2] in _BY_NAME:
            yield from (part for argument in node.args for part in _parts(argument))
    elif isinstance(node, ast.Subscript):
        yield from _parts(node.slice)
    elif isinstance(node, ast.Import):
        yield from (part for name in node.names for part in name.name.split("."))
    elif isinstance(node, ast.ImportFrom) and not _is_ours(node):
        yield from (node.module or "").split(".")
        yield from (name.name for name in node.names)


def _parts(node: ast.expr) -> list[str]:
    """Return the names in a string as `attrgetter` reads it, or none."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(ast.literal_eval(node)).split(".") if is_text else []


def _private(names: Collection[str] | Iterator[str]) -> set[str]:
    known = _DOCUMENTED | _PYTHONS_OWN | _MODULES
    return {name for name in names if _PRIVATE.fullmatch(name)} - known


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _is_ours(node: ast.ImportFrom) -> bool:
    return bool(node.level) or (node.module or "").startswith("cqrs_ddd_health")
