"""What the library raises at those who call it.

    HealthError
    ├── InvalidNameError (ValueError)      a name that cannot be shown or stored safely
    ├── InvalidCheckError (TypeError)      a check that could never be asked
    ├── InvalidOptionError (ValueError)    an option out of its range or of the wrong type
    ├── DuplicateNameError (ValueError)    a name that is already taken
    ├── UnknownNameError (LookupError)     a name that nothing is registered under
    ├── SettingsError (ValueError)         a malformed value in the environment or its files
    ├── ServerError (RuntimeError)         a server that cannot listen, or does so already
    ├── DrainError (RuntimeError)          a SIGTERM that cannot be waited with here
    └── BlockingCallError (RuntimeError)   a blocking call inside a running event loop

Nothing here is ever raised because of what a check did: that is a row of the report.
The models themselves are plain pydantic models and refuse with `pydantic.ValidationError`.
"""

from __future__ import annotations

__all__ = [
    "BlockingCallError",
    "DrainError",
    "DuplicateNameError",
    "HealthError",
    "InvalidCheckError",
    "InvalidNameError",
    "InvalidOptionError",
    "ServerError",
    "SettingsError",
    "UnknownNameError",
]


class HealthError(Exception):
    """The root of every error that the library raises at its callers."""


class InvalidNameError(HealthError, ValueError):
    """Raised when a name is not a string, empty, blank, too long or unsafe to print."""


class InvalidCheckError(HealthError, TypeError):
    """Raised when what is given as a check cannot be called, or not without arguments."""


class InvalidOptionError(HealthError, ValueError):
    """Raised when an option has the wrong type or is out of its range."""


class DuplicateNameError(HealthError, ValueError):
    """Raised when a name is taken and may not be replaced, or is folded alike to another."""


class UnknownNameError(HealthError, LookupError):
    """Raised when a component is named that the registry does not hold."""


class SettingsError(HealthError, ValueError):
    """Raised when a `CQRS_HEALTH_*` value, or the file that it comes from, cannot be used.

    The message names the variable and what it should be; a secret value is never in it.
    """


class ServerError(HealthError, RuntimeError):
    """Raised when a `HealthServer` cannot listen where it should, is entered twice, or not at all.

    If it cannot listen, the `OSError` is its `__cause__`.
    """


class DrainError(HealthError, RuntimeError):
    """Raised when SIGTERM cannot be held back: outside the main thread, or not by Python."""


class BlockingCallError(HealthError, RuntimeError):
    """Raised when a call that blocks its thread is made where an event loop is running."""
