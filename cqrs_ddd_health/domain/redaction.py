"""Texts that are fit to be shown: without secrets, on one line, and of bounded length."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = [
    "MAX_TEXT",
    "WITH_FREE_TEXT",
    "class_name",
    "hide",
    "safe_name",
    "safe_text",
    "scrub",
    "secrets_of_url",
]

MAX_TEXT = 500
MAX_NAME = 100
# No more of a text than this is ever looked at.
_MAX_READ = 4_000
_BREAKING = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")

# RFC 3986, section 3.2.1: what stands between the scheme and the last @ of the authority. A
# password may itself hold @, # or /, so everything up to the last @ before a blank goes.
_USERINFO = re.compile(r"(?<=://)\S*@")
_UNFINISHED = re.compile(r"(?<=://)\S*$")
_LEAST_TOKEN = 8
"""A query's value this long may be a token; shorter ones are numbers and words of any text."""
_SECRET_KEY = re.compile("pass|pwd|secret|token|key|auth|cred|sig", re.IGNORECASE)
_OUR_ARGUMENTS = ("expect", "min_available", "min_free")
# Of these a user is no secret, and an argument only if its name says so.
_PLAIN = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "redis", "rediss", "unix")
WITH_FREE_TEXT = ("http", "https", "disk", "unix", "sqlite")
"""Of these there may be an @ after the authority."""


def scrub(text: str) -> str:
    """Return `text` without the userinfo of the URLs in it.

    >>> scrub("cannot connect to redis://user:secret@cache:6379/0")
    'cannot connect to redis://***@cache:6379/0'
    """
    return _USERINFO.sub("***@", text)


class _Hidden:
    """The secrets of this process, and how they are found in a text."""

    def __init__(self) -> None:
        self._known: Mapping[str, re.Pattern[str]] = {}
        self.longest = 0

    def add(self, secrets: Iterable[str]) -> None:
        ways = {way for secret in secrets for way in _written(secret) if way}
        if ways <= self._known.keys():
            return
        # The longest first: one secret may be a part of another.
        ordered = sorted({*self._known, *ways}, key=len, reverse=True)
        self._known = {way: re.compile(_as_token(way)) for way in ordered}
        self.longest = len(ordered[0])

    def cut_out(self, text: str, *, words: bool) -> str:
        """Return `text` without them; those that are words only if wanted."""
        for secret, token in self._known.items():
            if secret not in text:  # by far the quickest way to tell
                continue
            if not _is_wordlike(secret):
                text = text.replace(secret, "***")
            elif words:
                text = token.sub("***", text)
        return text


def _written(secret: str) -> Iterator[str]:
    """Each way that a library may write it: percent-encoded and not, as `repr` and JSON do."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    encoded = {quote(text, kept, errors="replace") for text in plain for kept in _UNQUOTED}
    encoded |= {quote_plus(text, errors="replace") for text in plain}
    for text in plain | encoded:
        yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1])


# What stays as it is: nothing, a path's / as in HTTP clients, or what SQLAlchemy leaves.
_UNQUOTED = ("", "/", " +")


def _is_wordlike(secret: str) -> bool:
    """Whether other words may well contain it: `postgres`, `Connection`, `1`."""
    return len(secret) < _LEAST_TOKEN or secret.isalpha()


def _as_token(secret: str) -> str:
    """Match it only where no word goes on: cut out of one, what is left would spell it."""
    before = "(?<![^\\W_])" if secret[0].isalnum() else ""
    after = "(?![^\\W_])" if secret[-1].isalnum() else ""
    return f"{before}{re.escape(secret)}{after}"


_hidden = _Hidden()


def hide(secrets: Iterable[str]) -> None:
    """Have these secrets cut out of every text that is made safe from now on.

    In all the ways that they may be written. One that is shorter than 8 characters, or nothing but
    letters, is cut out where it stands alone, and left where it is a part of a word or a name.
    """
    _hidden.add(secrets)


def secrets_of_url(url: str) -> Iterator[str]:
    """Yield what is secret in a URL, well-formed or not.

    Its password, or its user where that may be a token, and of its query the values that are named
    like a secret or are as long as one.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.partition("+")[0].lower()
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    userinfo = authority.rpartition("@")[0]
    if not userinfo and scheme not in WITH_FREE_TEXT:
        userinfo = rest.rpartition("@")[0]  # the password is not encoded, and has cut it short
    user, colon, password = userinfo.partition(":")
    if colon:
        yield password
    elif scheme not in _PLAIN:
        yield user
    for argument in rest.partition("?")[2].split("&"):
        key, equals, value = argument.partition("=")
        said = value if equals else key
        may_be_token = scheme not in _PLAIN and len(said) >= _LEAST_TOKEN
        if key not in _OUR_ARGUMENTS and (may_be_token or _SECRET_KEY.search(key)):
            yield said


def safe_text(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` without secrets, fit for UTF-8, and cut to `limit` characters.

    Cut out are what was given to `hide`, then the userinfo of URLs. An ellipsis shows the cut. What
    would break a line becomes a space, so that a text is one line wherever it is printed.
    """
    return _safe(text, limit, words=True)


def safe_name(name: str, limit: int = MAX_NAME) -> str:
    """Return a name, of a class or of a detail, as `safe_text` does.

    But a word of it that is also a secret stays: whoever knows the name would read the secret off.
    """
    return _safe(name, limit, words=False)


def class_name(value: object) -> str:
    """Return the name of the class of `value`, as `safe_name` does; it runs no code of that class.

    Read past the metaclass: what its author made of `__name__` may raise.
    """
    name: str = vars(type)["__name__"].__get__(type(value))
    return safe_name(name) or "unnamed"


def _safe(text: str, limit: int, *, words: bool) -> str:
    plain = str.__str__(text)  # a subclass may lie about its length
    goes_on = len(plain) > _MAX_READ
    clean = _hidden.cut_out(plain[:_MAX_READ], words=words)
    if goes_on and _hidden.longest:  # the start of one may be at the end of what was read
        clean = clean[: -_hidden.longest]
    if "://" in clean:
        # Where the text goes on, the @ of its last URL may be in what is not read.
        clean = scrub(_UNFINISHED.sub("***", clean) if goes_on else clean)
    if len(clean) > limit or goes_on:
        clean = f"{clean[: limit - 1]}…"
    return _BREAKING.sub(" ", clean).encode(errors="replace").decode()
