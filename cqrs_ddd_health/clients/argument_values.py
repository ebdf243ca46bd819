"""What an argument of a URL may be, and what a client is given for the text.

No error says anything of a URL but names of arguments that are known: the rest may be a secret.
"""

from __future__ import annotations

import codecs
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

from cqrs_ddd_health.errors import InvalidOptionError

__all__ = [
    "Place",
    "Places",
    "Told",
    "ciphers",
    "codec",
    "count",
    "directory",
    "file",
    "flag",
    "one_of",
    "places",
    "seconds",
    "text",
    "told_by",
    "whole_seconds",
]

Told: TypeAlias = "dict[str, object]"
Parse: TypeAlias = "Callable[[str], object]"


class Place(NamedTuple):
    """What makes a value of a text, or raises `ValueError`, and what the client calls it."""

    parse: Parse
    names: tuple[str, ...] = ()
    """With what it is a part of before; as the URL calls it if empty."""
    stays: bool = False
    """Whether it stays in the URL: what takes that apart makes something of it."""


Places: TypeAlias = "Mapping[str, Place]"


def places(
    parse: Parse, *names: str, into: tuple[str, ...] = (), stay: bool = False
) -> dict[str, Place]:
    """Return the places of several arguments that are of one kind."""
    return {name: Place(parse, (*into, name), stay) for name in names}


def told_by(scheme: str, query: Mapping[str, str | Sequence[str]], known: Places) -> Told:
    """Return what the query of a URL says that does not stay there, as its client calls it.

    Raises:
        InvalidOptionError: if there is no such argument, it is there twice, or has no such value.
    """
    told: Told = {}
    for name, said in query.items():
        place = known.get(name)
        if place is None:
            raise InvalidOptionError(_unknown(name, scheme, known))
        if isinstance(said, str):
            value = _value(name, place, said)
        elif place.stays:
            continue
        else:
            raise InvalidOptionError(f"it says {name} more than once")
        if not place.stays:
            _put(told, place.names or (name,), value)
    return told


def _value(name: str, place: Place, said: str) -> object:
    try:
        return place.parse(said)
    except ValueError as error:
        raise InvalidOptionError(f"{name} {error}") from None


def _put(told: Told, names: tuple[str, ...], value: object) -> None:
    *parents, last = names
    for parent in parents:
        told = cast("Told", told.setdefault(parent, {}))
    told[last] = value


def _unknown(name: str, scheme: str, known: Places) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it may be {', '.join(sorted(known))}"
    return f"a {scheme} URL has no such argument, {hint}"


def text(said: str) -> str:
    """Take any text."""
    return said


def count(said: str) -> int:
    """Take a whole number, or raise `ValueError`."""
    if not (said.isascii() and said.isdecimal()):
        raise ValueError("must be a whole number, 0 or more")
    return int(said)


def seconds(said: str) -> float:
    """Take a positive number of seconds, or raise `ValueError`."""
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("must be a number of seconds above 0") from None
    return number


def whole_seconds(said: str) -> int:
    """Take a positive number of seconds for a driver that counts whole ones: the next one."""
    return math.ceil(seconds(said))


_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def flag(said: str) -> bool:
    """Take what says yes or no, or raise `ValueError`."""
    if said.lower() not in _FLAGS:
        raise ValueError("must be true or false")
    return _FLAGS[said.lower()]


def file(said: str) -> str:
    """Take the name of a file that is there, or raise `ValueError`."""
    if not Path(said).is_file():
        raise ValueError("must name a file that is there")
    return said


def directory(said: str) -> str:
    """Take the name of a directory that is there, or raise `ValueError`."""
    if not Path(said).is_dir():
        raise ValueError("must name a directory that is there")
    return said


def codec(said: str) -> str:
    """Take the name of an encoding that Python knows, or raise `ValueError`."""
    try:
        return codecs.lookup(said).name
    except LookupError:
        raise ValueError("must be an encoding such as utf-8") from None


def ciphers(said: str) -> str:
    """Take a list of ciphers as OpenSSL reads it, or raise `ValueError`."""
    try:
        ssl.create_default_context().set_ciphers(said)
    except ssl.SSLError:
        raise ValueError("must name ciphers as OpenSSL does") from None
    return said


def one_of(*choices: str) -> Parse:
    """Return what takes one of these, or raises `ValueError`."""

    def parse(said: str) -> str:
        if said not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return said

    return parse
