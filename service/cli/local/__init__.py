"""Local commands: they read the configuration and open the database themselves."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from rich.markup import escape

from service import __version__, log
from service.analytics import figures
from service.analytics.export import TABLES, Format
from service.archive.archive import SESSIONS
from service.cli import reports
from service.cli.arguments import parse_instant
from service.cli.exit_codes import INTERRUPTED, Exit
from service.cli.local import data, jobs, schema, serve
from service.cli.local.terminal import err
from service.cli.phrases import EXAMPLES, LOCAL, LOCAL_ONLY
from service.engine import postgres_errors
from service.engine.postgres_errors import Server
from service.errors import (
    BadRequest,
    ConfigurationError,
    ServiceError,
    SourceUnavailable,
    UnknownJob,
    UnknownJobType,
)
from service.jobs import all_jobs
from service.messages.reminder import kinds_of
from service.settings import Settings
from service.setup import parts, preflight

_Result = TypeVar("_Result")
_COLLECTIONS = ("users", "goals", "timer_sessions")
_WRONG_USE = (ConfigurationError, BadRequest, UnknownJob, UnknownJobType)
_UNAVAILABLE = (
    SourceUnavailable,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    ConnectionError,
    TimeoutError,
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, and print every expected error as one line. Returns the exit code."""
    options = _parser().parse_args(arguments)
    url = ""
    try:
        settings = _load(connect=options.command == "check-config" and not options.offline)
        url = settings.database_url
        on_terminal = sys.stderr.isatty()
        as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
        quiet = options.command not in {"serve"} and settings.log_level == "info"
        log.configure("warning" if quiet else settings.log_level, json=as_json)
        return int(_run(options.act(settings, options)))
    except (ServiceError, *_UNAVAILABLE) as error:
        for problem in _problems(error, url):
            err.print(f"[red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
        if isinstance(error, _WRONG_USE):
            return Exit.WRONG_USE
        return Exit.UNAVAILABLE if isinstance(error, _UNAVAILABLE) else Exit.FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _load(*, connect: bool) -> Settings:
    """The settings. Raises ConfigurationError naming every problem.

    ``connect``: also name what does not work of settings that are right where others are wrong.
    """
    usable: list[Settings] = []

    def also(settings: Settings) -> list[str]:
        usable.append(settings)
        return parts.problems_of(settings)

    try:
        return Settings.load(also=also)
    except ConfigurationError as error:
        if connect and usable:
            findings = _run(preflight.check_connections(usable[0], kinds_of(all_jobs()).values()))
            error.problems += [problem for one in findings.values() for problem in one.problems]
        raise


def _problems(error: Exception, url: str) -> list[str]:
    """What to print about an error; ``url``: our database's."""
    if isinstance(error, ConfigurationError):
        return error.problems
    if isinstance(error, ServiceError):
        return [str(error)]
    return [postgres_errors.describe(error, Server("DATABASE", url))]


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run on uvloop if it is installed."""
    try:
        import uvloop  # noqa: PLC0415 — not on every platform
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="Background jobs of a dashboard.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, act: Callable[..., Coroutine[Any, Any, Exit]]) -> argparse.ArgumentParser:
        text = LOCAL[name]
        remote_hint = "" if name in LOCAL_ONLY else " (with --url URL it asks a running service)"
        example = f"example: python -m service {EXAMPLES[name]}{remote_hint}"
        subparser = commands.add_parser(name, help=text, description=text, epilog=example)
        subparser.set_defaults(act=act)
        subparser.add_argument("--json", action="store_true", help="print JSON for scripts")
        return subparser

    command("serve", serve.serve)
    command("demo", serve.demo)
    command("jobs", jobs.list_jobs)
    run = command("run", jobs.run_job)
    run.add_argument("type", help="reminder or analytics")
    run.add_argument("name", help="for example goalDeadlines")
    run.add_argument("--dry-run", action="store_true", help="decide, write nothing")
    run.add_argument(
        "--as-of", type=parse_instant, metavar="TIME", help="another moment, ISO 8601 with a zone"
    )
    run.add_argument("--user", metavar="ID", help="one user only")
    run.add_argument("--force", action="store_true", help="send even if it was sent before (needs --user)")
    run.add_argument(
        "--confirm", action="store_true", help="dataCleanup: more than 20 %% of the sessions may go"
    )
    preview = command("preview", jobs.preview)
    preview.add_argument("name", help="for example weeklyReview")
    preview.add_argument("--user", metavar="ID", help="what this user would get; without: a sample")
    preview.add_argument("--at", type=parse_instant, metavar="TIME", help="at another moment (needs --user)")
    preview.add_argument("--variant", help="which sample, for example streak")
    preview.add_argument("--locale", help="in another language")
    preview.add_argument("--format", choices=("text", "html", "source"), default="text")
    preview.add_argument("--to", metavar="ADDRESS", help="send it there, once, marked as a test")
    explain = command("explain", jobs.explain)
    explain.add_argument("name", help="for example goalDeadlines")
    explain.add_argument("--user", metavar="ID", required=True)
    explain.add_argument("--at", type=parse_instant, metavar="TIME", help="default now; ISO 8601 with a zone")
    _figures(command)
    _data(command)
    command("migrate", data.migrate_schema)
    check = command("check-config", serve.check_config)
    check.add_argument("--offline", action="store_true", help="connect to nothing")
    return parser


def _data(command: Callable[..., argparse.ArgumentParser]) -> None:
    archive = command("archive", data.archive)
    archive.add_argument("what", choices=("list", "verify"))
    restore = command("restore", data.restore)
    restore.add_argument("--month", type=_month, required=True, metavar="YYYY-MM")
    restore.add_argument("--table", choices=(SESSIONS,), default=SESSIONS, help="what to put back")
    user = command("user", data.user)
    user.add_argument("what", choices=("export", "erase"))
    user.add_argument("id", metavar="ID")
    sync = command("sync", data.sync)
    sync.add_argument(
        "--confirm", choices=_COLLECTIONS, metavar="TABLE",
        help="rows that are missing at the dashboard are gone for good: users, goals or timer_sessions",
    )  # fmt: skip
    sync.add_argument("--full", action="store_true", help="read every row again, whatever is known about it")
    sync.add_argument("--reason", default="", help="why, for those who wonder")
    schema_parser = command("schema", schema.schema)
    schema_parser.add_argument(
        "what", choices=("show", "try"), help="show prints a profile; try reads 200 records of each table"
    )
    schema_parser.add_argument("profile", metavar="PROFILE|FILE", help="A, B, J, PG, or a mapping file (try)")


def _figures(command: Callable[..., argparse.ArgumentParser]) -> None:
    forecast = command("forecast", jobs.forecast)
    forecast.add_argument("--days", type=_days, default=7, metavar="N", help="how far to look; default 7")
    forecast.add_argument("--job", metavar="NAME", help="only this reminder")
    forecast.add_argument(
        "--exact", action="store_true", help="ask the job itself about its next slot (needs --job)"
    )
    analytics = command("analytics", data.analytics)
    analytics.add_argument("view", choices=reports.VIEWS)
    _range(analytics, ("table", *Format), "table")
    analytics.add_argument(
        "--kind", choices=figures.COHORT_KINDS, default="weekly", help="cohorts by week or month"
    )
    analytics.add_argument(
        "--mode", choices=("exact", "unbounded"), default="exact", help="active in period n, or in n or later"
    )
    export = command("export", data.export)
    export.add_argument("table", choices=TABLES)
    _range(export, tuple(Format), "csv")


def _range(parser: argparse.ArgumentParser, formats: tuple[str, ...], default: str) -> None:
    parser.add_argument("--from", dest="since", type=reports.day, metavar="DATE", help="first date, included")
    parser.add_argument("--to", dest="until", type=reports.day, metavar="DATE", help="last date, included")
    parser.add_argument("--format", choices=[str(format_) for format_ in formats], default=default)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to 31")
    return int(text)


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 — a month, not an instant
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month; use 2026-01") from None
