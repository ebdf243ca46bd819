"""`cqrs-health`: health from a terminal."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
from contextlib import suppress

from .output import OutputError, UsageError, write

# `probe` is a new process every few seconds: what it does not need is imported where it is used.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrs_ddd_health.domain.models import HealthReport
    from cqrs_ddd_health.registry import HealthRegistry
    from cqrs_ddd_health.web.server.health_server import HealthServer

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130  # the last as a shell says it
MAX_SECONDS = 86_400.0
DEPLOYED = ("prometheus", "alerts", "alertmanager", "kubernetes", "compose", "grafana")
"""What is exported for others to run; `deploy.rendering.KINDS` has the files."""

_CLEAR = "\x1b[H\x1b[J"  # ECMA-48: to the upper left corner, and erase from there to the end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 done, 1 not well, 2 usage, configuration, or an output that cannot be written.
    """
    try:
        options = _options(arguments)
        code: int = options.run(options)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    except OutputError as error:
        sys.stderr.write(f"cqrs-health: {error}\n" if str(error) else "")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # argparse would show them whole, and one may be a URL with a password
        names = (word.partition("=")[0] if word.startswith("-") else "..." for word in unknown)
        parser.error(f"unrecognized arguments: {' '.join(names)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cqrs-health", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    _describe_serve(commands.add_parser("serve", help="answer health probes over HTTP"))
    _describe_check(commands.add_parser("check", help="run the checks and print a table"))
    _describe_probe(commands.add_parser("probe", help="ask a URL, or look at a file"))
    _describe_export(
        commands.add_parser(
            "export", help="write JSON Schemas or files to deploy, print the DDL of shared beats"
        )
    )
    return parser


class _Version(argparse.Action):
    """Looks the version up only if it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        write(f"{parser.prog} {version('cqrs-ddd-health')}\n")
        parser.exit(OK)


def _describe_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = (
        "Answer health probes over HTTP. Settings come from CQRS_HEALTH_* variables."
    )
    _add_registry(serve)
    serve.add_argument("--host", help="the address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="the port to listen on (8000), 0 for a free one")
    serve.set_defaults(run=_serve)


def _describe_check(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Run the checks once and print a table. Exit code 0 for healthy or degraded, 1 for "
        "unhealthy, 2 if there is nothing to check or a setting cannot be used. Settings come from "
        "CQRS_HEALTH_* variables."
    )
    _add_registry(check)
    check.add_argument("--json", action="store_true", help="the report as JSON, on one line")
    check.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="check again and again, every 2 seconds if not told otherwise, until Ctrl-C",
    )
    check.add_argument(
        "--deadline",
        type=_seconds,
        metavar="SECONDS",
        help="how long to wait; a check that has not answered by then is pending",
    )
    check.add_argument(
        "--explain",
        action="store_true",
        help="run nothing: show each check's options, who said so, and which probes it gates",
    )
    check.set_defaults(run=_check)


def _add_registry(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--demo", action="store_true", help="a database, the disk and a worker")
    what.add_argument("--registry", metavar="MODULE:ATTRIBUTE", help="your application's registry")
    parser.add_argument(
        "--strict-settings",
        action="store_true",
        help="refuse unknown CQRS_HEALTH_* variables, of which there is a warning otherwise",
    )


def _describe_probe(probe: argparse.ArgumentParser) -> None:
    probe.description = (
        "Ask a URL once, or look at the heartbeat in a file, for Docker's HEALTHCHECK and exec "
        "probes. Exit code 0 for a 2xx or a young heartbeat, 1 for any other answer or none, 2 for "
        "a URL that cannot be asked."
    )
    what = probe.add_mutually_exclusive_group(required=True)
    what.add_argument("url", metavar="URL", nargs="?", help="http:// or https://")
    what.add_argument("--file", metavar="PATH", help="a file that a HeartbeatFile writes")
    probe.add_argument(
        "--max-age",
        type=_seconds,
        metavar="SECONDS",
        help="how old the heartbeat in the file may be (60)",
    )
    probe.add_argument(
        "--timeout",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="how long all of it may take, for a URL (2)",
    )
    probe.set_defaults(run=_probe)


def _describe_export(export: argparse.ArgumentParser) -> None:
    export.description = (
        "schemas: write the JSON Schemas of reports, answers and settings, a file each. ddl: print "
        "the statement that makes the table of shared heartbeats, for an account that may not. "
        f"{', '.join(DEPLOYED)}: write files to deploy, whose times follow the settings."
    )
    export.add_argument("what", choices=["ddl", "schemas", *DEPLOYED], help="what to export")
    export.add_argument(
        "where",
        nargs="?",
        metavar="WHERE",
        help="the directory to write to (./schemas, ./deploy); for ddl postgresql, mysql, mariadb "
        "or sqlite, of CQRS_HEALTH_HEARTBEAT_STORE_URL if not given",
    )
    export.add_argument(
        "--set",
        action="append",
        default=[],
        dest="given",
        metavar="NAME=VALUE",
        help="a name, port or time in the files to deploy; may be given again and again",
    )
    export.set_defaults(run=_export)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


def _probe(options: argparse.Namespace) -> int:
    failure = _url_failure(options) if options.file is None else _file_failure(options)
    if failure is None:
        return OK
    sys.stderr.write(f"{failure}\n")
    return FAILED


def _url_failure(options: argparse.Namespace) -> str | None:
    from .probe import probe

    if options.max_age is not None:
        raise UsageError("cqrs-health: --max-age is for --file")
    try:
        return probe(options.url, options.timeout)
    except ValueError as error:
        raise UsageError(f"cqrs-health: {error}") from None


def _file_failure(options: argparse.Namespace) -> str | None:
    from cqrs_ddd_health.heartbeats.file import staleness

    return staleness(options.file, 60.0 if options.max_age is None else options.max_age)


def _export(options: argparse.Namespace) -> int:
    from .export.dispatch import export

    write(export(options.what, options.where, options.given))
    return OK


def _serve(options: argparse.Namespace) -> int:
    from cqrs_ddd_health.domain.transitions import show_on_stderr
    from cqrs_ddd_health.errors import InvalidOptionError, ServerError

    from .load_registry import chosen_registry
    from .serve import serve

    registry = chosen_registry(options)
    settings = registry.settings
    host = options.host or settings.serve_host
    port = settings.serve_port if options.port is None else options.port
    show_on_stderr()

    def announce(server: HealthServer) -> None:
        write(f"Health page: {server.url}/health/page\n")
        if options.demo:
            from .demo import demo_database

            write(f"Its database is {demo_database()}: move it away and look.\n")

    try:
        serve(registry, host, port, announce)
    except (InvalidOptionError, ServerError) as error:
        raise UsageError(f"cqrs-health: {error} (--host, --port)") from None
    return OK


def _check(options: argparse.Namespace) -> int:
    from cqrs_ddd_health.runtime.cancellation import loop_runner

    from .load_registry import chosen_registry

    registry = chosen_registry(options)
    if options.explain:
        _explain(registry, as_json=options.json)
        return OK
    # One loop for all that is asked: the registry's async clients belong to it.
    with loop_runner() as runner:
        try:
            if options.watch is None:
                return runner.run(_checked(registry, options))
            with suppress(KeyboardInterrupt):  # either signal is how it is meant to end
                runner.run(_watched(registry, options))
            return OK
        finally:
            runner.run(registry.aclose())


async def _checked(registry: HealthRegistry, options: argparse.Namespace) -> int:
    report = await registry.report(deadline_seconds=options.deadline)
    _show(report, options)
    return FAILED if report.status == "unhealthy" else OK


async def _watched(registry: HealthRegistry, options: argparse.Namespace) -> None:
    import asyncio

    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # the runner's by now
    while True:
        _show(await registry.report(deadline_seconds=options.deadline), options)
        await asyncio.sleep(options.watch)


def _explain(registry: HealthRegistry, *, as_json: bool) -> None:
    from .explain import explained, explained_as_json

    origins = {name: registry.origins(name) for name in registry.names}
    if as_json:
        write(f"{explained_as_json(origins)}\n", "utf-8")
    else:
        write(explained(origins))


def _show(report: HealthReport, options: argparse.Namespace) -> None:
    from .table import table

    if options.json:
        write(f"{report.model_dump_json()}\n", "utf-8")
    elif sys.stdout is not None and sys.stdout.isatty():
        coloured = not os.environ.get("NO_COLOR")
        text = table(report, width=shutil.get_terminal_size().columns, coloured=coloured)
        write(text if options.watch is None else f"{_CLEAR}{text}")
    else:
        text = table(report)
        write(text if options.watch is None else f"{text}\n")
