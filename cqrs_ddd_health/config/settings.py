"""Everything that the environment can say: `CQRS_HEALTH_*`, with `__` between nested names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableValueError

from cqrs_ddd_health.domain.names import Name, fold, problem_of
from cqrs_ddd_health.domain.options import DEFAULT_TIMEOUT_SECONDS, CheckOptions, PositiveSeconds
from cqrs_ddd_health.domain.redaction import hide, safe_name, secrets_of_url
from cqrs_ddd_health.errors import SettingsError
from cqrs_ddd_health.runtime.readers import warn

from .sources import (
    ENV_FILE,
    ENV_PREFIX,
    SECRETS_DIR,
    env_file_path,
    secrets_dir_path,
    source_of,
    variables,
)

__all__ = ["ENV_PREFIX", "CheckSettings", "Detail", "HealthSettings", "unclaimed", "variable_of"]

Detail: TypeAlias = Literal["minimal", "safe", "full", "authorized"]
Limit = Annotated[int, Field(ge=1)]
_Object: TypeAlias = "Mapping[object, object]"

_LISTS = ("probes", "tags")
_LEAST_TOKEN = 16
"""In characters: one that could be guessed lets everybody in."""
_TOKEN = re.compile(rf"(?=.{{{_LEAST_TOKEN}}})[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, 2.1


def _listed(value: object) -> object:
    """`a, b` in the environment is a list of two; a JSON array is one as well."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return from_json(value)
        except ValueError:
            return value  # a text is no list, and refused under the name of its field
    return tuple(part.strip() for part in value.split(",") if part.strip())


class CheckSettings(CheckOptions, frozen=True):
    """What the environment can say of one check: its options, and the URL of what it asks."""

    model_config: ClassVar[ConfigDict] = ConfigDict(title="CheckSettings")

    url: SecretStr | None = Field(
        default=None,
        description="What `register_from_settings` makes a check of; never shown, it may hold "
        "a password.",
    )


def variable_of(name: str, option: str) -> str:
    """Return the variable that says that option of the check with that name."""
    return f"{_NESTED}{fold(name)}__{option}".upper()


def _read_options(given: object) -> object:
    """Read one check's options leniently: the environment knows nothing but text."""
    if isinstance(given, CheckSettings) or not isinstance(given, Mapping):
        return given
    said = cast("_Object", given)
    values = {key: _listed(item) if key in _LISTS else item for key, item in said.items()}
    return CheckSettings.model_validate(values, strict=False)


class HealthSettings(BaseSettings):
    """The settings, from keywords, then the environment, then a dotenv file, then secret files.

    `HealthSettings.from_environment()` also follows `CQRS_HEALTH_ENV_FILE` and
    `CQRS_HEALTH_SECRETS_DIR`, names the variable in its errors and warns of unknown ones.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        title="HealthSettings",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        secrets_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
        json_schema_extra={"additionalProperties": False},
    )

    heartbeat_timeout_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=60.0, description="The age beyond which a worker's beat is stale; 0 is always."
    )
    check_timeout_seconds: PositiveSeconds = Field(
        default=DEFAULT_TIMEOUT_SECONDS, description="How long a check may take if it says nothing."
    )
    http_max_age_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="How old an answer over HTTP may be."
    )
    http_deadline_seconds: PositiveSeconds = Field(
        default=0.8, description="How long an asker over HTTP waits; a probe gives up after 1 s."
    )
    live_stall_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=60.0,
        description=(
            "How long the event loop that a `HealthServer` was entered in may not answer before "
            "the process no longer lives, in seconds; 0 is for ever."
        ),
    )
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=5.0,
        description=(
            "How long a process that SIGTERM told to leave says that it is not ready before it "
            "leaves, in seconds: `cqrs-health serve`, and where `drain_on_sigterm` was called."
        ),
    )
    detail: Detail = Field(
        default="safe",
        description=(
            "What strangers see. minimal: the three paths of the contract. safe: states, "
            "latencies, ages and the kind of a failure. full: messages, details and instances too. "
            "authorized: full for whom the bearer token or the application's authorizer lets in, "
            "safe for all others."
        ),
    )
    bearer_token: SecretStr | None = Field(
        default=None,
        description=(
            "Whoever sends it as `Authorization: Bearer ...` sees everything where detail is "
            "authorized: at least 16 characters, letters, digits and -._~+/=; never shown."
        ),
    )
    heartbeat_store_url: SecretStr | None = Field(
        default=None,
        description="Where processes share their beats: sqlite+aiosqlite:///..., "
        "postgresql+asyncpg://..., mysql+aiomysql://..., redis://...; never shown.",
    )
    heartbeat_store_namespace: Name = Field(
        default="default", description="Keeps the beats of several applications in one store apart."
    )
    required: Annotated[tuple[Name, ...], NoDecode] = Field(
        default=(), description="Checks and workers that must exist: not ready until they do."
    )
    service_name: Name | None = Field(default=None, description="Shown in the report.")
    service_version: Name | None = Field(default=None, description="Shown in the report.")
    instance: Name | None = Field(
        default=None, description="This process; host, pid and a start token if not said."
    )
    serve_host: str = Field(default="127.0.0.1", description="Where `cqrs-health serve` listens.")
    serve_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="The port of `cqrs-health serve`; 0 lets the system pick one."
    )
    serve_registry: str | None = Field(
        default=None,
        description="The registry that `cqrs-health` serves or checks: package.module:attribute.",
    )
    max_workers: Limit = Field(default=1_000, description="Workers that one process remembers.")
    max_shared_workers: Limit = Field(
        default=200,
        description=(
            "Workers in a report that are only known from other processes and that nobody expects; "
            "worst first, the others are counted."
        ),
    )
    max_instances: Limit = Field(
        default=10_000, description="Instances of workers that one process remembers."
    )
    max_heartbeats: Limit = Field(
        default=200,
        description="Instances in a report, beyond the youngest one of each worker; worst first.",
    )
    metrics_max_names: Limit = Field(
        default=200,
        description="Components, and as many workers, that metrics name; the others are counted.",
    )
    max_threads: Limit = Field(
        default=256, description="Threads for blocking checks; a check beyond waits for one."
    )
    checks: dict[str, Annotated[CheckSettings, BeforeValidator(_read_options)]] = Field(
        default_factory=dict,
        description=(
            "By check its options, over those in code, CHECKS__DATABASE__TIMEOUT_SECONDS=2, and "
            "its URL: CHECKS__DATABASE__URL=postgresql+asyncpg://..."
        ),
    )

    @classmethod
    def from_environment(cls, *, strict: bool = False) -> HealthSettings:
        """Return the settings of this process.

        Args:
            strict: refuse variables that look like ours and are not; each is one warning a process
                otherwise, because Kubernetes sets such for a Service called cqrs-health.

        Raises:
            SettingsError: if a value is malformed, a named file or directory is not there, or,
                with `strict`, a variable unknown.
        """
        env_file = env_file_path()
        secrets_dir = secrets_dir_path()
        try:
            _tell_of_unknown(variables(env_file), strict=strict)
            # Keywords of pydantic-settings that it keeps from type checkers.
            return cls(_env_file=env_file, _secrets_dir=secrets_dir)  # type: ignore[call-arg]
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None
        except UnreadableValueError as error:
            raise SettingsError(_explain_unreadable(error)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{_FILES} cannot be read: {_why(error)}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secret files under nested names too, as the environment is read."""
        secret_files = NestedSecretsSettingsSource(file_secret_settings)
        return init_settings, env_settings, dotenv_settings, secret_files

    @field_validator("bearer_token")
    @classmethod
    def _can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(
                f"a bearer token has at least {_LEAST_TOKEN} characters, all of them letters, "
                "digits or -._~+/ and only at its end ="
            )
        return value

    @field_validator("required", mode="before")
    @classmethod
    def _split_required(cls, value: object) -> object:
        return _listed(value)

    @field_validator("checks", mode="before")
    @classmethod
    def _read_checks(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        given = cast("_Object", value)
        names: dict[str, str] = {}
        for name, options in ((str(name), options) for name, options in given.items()):
            _require_check_name(name, options)
            other = names.setdefault(fold(name), name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} name the same check, leave one out")
        return {fold(str(name)): options for name, options in given.items()}

    @model_validator(mode="after")
    def _hide_secrets(self) -> Self:
        """Before code of the application runs: it may raise what it read in the environment."""
        urls = (self.heartbeat_store_url, *(said.url for said in self.checks.values()))
        hide(
            secret
            for url in urls
            if url is not None
            for secret in secrets_of_url(url.get_secret_value())
        )
        hide([self.bearer_token.get_secret_value()] if self.bearer_token is not None else ())
        return self

    def options_of(self, name: str) -> CheckSettings | None:
        """Return what the settings say of the check with that name, if anything."""
        return self.checks.get(fold(name))

    @staticmethod
    def origin_of(variable: str) -> str:
        """Return where a setting that has the name of this variable was said, as it is now."""
        return source_of(variable) or "HealthSettings in code"


def _require_check_name(name: str, options: object) -> None:
    """Refuse a bad one under its variable, of which it is the part that names the check."""
    problem = problem_of(name) or problem_of(fold(name))
    if problem is not None:
        said = list(cast("_Object", options)) if isinstance(options, Mapping) else []
        where = {"variable": _spelled("checks", name, *map(str, said[:1])), "problem": problem}
        raise PydanticCustomError(_BAD_NAME, _BAD_NAME_WORDS, where)


def _spelled(*names: str) -> str:
    """Return the variable that says these, readable and on one line whatever they are."""
    return ENV_PREFIX + "__".join(safe_name(ascii(name.upper())[1:-1]) for name in names)


def _why(error: OSError | UnicodeDecodeError) -> str:
    """What was wrong, without the bytes: they may be a secret."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: {error.filename!r}"
    return f"it must be UTF-8, and is not at byte {error.start}"


def _explain_unreadable(error: UnreadableValueError) -> str:
    if isinstance(error.__cause__, ValueError):  # of all fields only `checks` is read as JSON
        return f"{_CHECKS}: {error}; it must be a JSON object"
    return f"{_FILES} cannot be used: {error}"


def _explain(error: ValidationError) -> str:
    return "; ".join(map(_explain_one, error.errors(include_url=False, include_input=False)))


def _explain_one(item: ErrorDetails) -> str:
    if item["type"] == _BAD_NAME:
        return item["msg"]
    names = [part for part in item["loc"] if isinstance(part, str)]  # not the places in a list
    variable = _spelled(*names)
    if item["type"] != "extra_forbidden":
        return f"{variable}: {item['msg']}"
    return f"{variable}: there is no such option{_did_you_mean(names[-1], _OPTIONS)}"


def _did_you_mean(name: str, known: Iterable[str], otherwise: str = "", prefix: str = "") -> str:
    close = get_close_matches(name.upper(), known, n=1)
    return f", did you mean {prefix}{close[0]}?" if close else otherwise


def _tell_of_unknown(variables: Iterable[str], *, strict: bool) -> None:
    """Refuse the variables that look like ours and are not, or warn of each once a process."""
    unknown = dict(_unknown(variables))
    if unknown and strict:
        raise SettingsError(
            "; ".join(f"unknown variable {name}{unknown[name]}" for name in unknown)
        )
    for variable in sorted(unknown.keys() - _warned):
        _warned.add(variable)
        warn("unknown variable %s is ignored%s", variable, unknown[variable])


def _unknown(variables: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Return each variable that looks like ours and is not, sorted, with what it may have meant."""
    for variable in sorted({name.upper() for name in variables}):
        ours = variable.startswith(ENV_PREFIX) and not variable.startswith(_NESTED)
        said = variable.removeprefix(ENV_PREFIX)  # alike in all, it would make all alike
        if ours and said not in _NAMES:
            link = " (is it a service link of Kubernetes?)"
            yield variable, _did_you_mean(said, _NAMES, link, ENV_PREFIX)


def unclaimed(settings: HealthSettings, names: Iterable[str]) -> list[str]:
    """Return a complaint for each check that the settings name and that there is not."""
    known = {fold(name).upper() for name in names}
    return [
        f"{_NESTED}{name.upper()}: there is no check {name!r}"
        f"{_did_you_mean(name, known, prefix=_NESTED)}"
        for name in settings.checks
        if name.upper() not in known
    ]


_warned: set[str] = set()
_OPTIONS = [name.upper() for name in CheckSettings.model_fields]
_NAMES = [name.upper() for name in (*HealthSettings.model_fields, ENV_FILE, SECRETS_DIR)]
_CHECKS = f"{ENV_PREFIX}CHECKS"
_BAD_NAME = "bad_name"
_BAD_NAME_WORDS = (
    "{variable}: the name of a check {problem}; "
    f"it is the NAME in {_CHECKS}__NAME__OPTION, and a key of {_CHECKS}"
)
_NESTED = f"{_CHECKS}__"
_FILES = f"what {ENV_PREFIX}{ENV_FILE} or {ENV_PREFIX}{SECRETS_DIR} names"
