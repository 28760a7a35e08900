"""The commands that work on this machine: they read the configuration and open the database themselves."""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service import __version__, app, log, server
from service.analytics import figures
from service.analytics.export import TABLES, Format
from service.archive.archive import SESSIONS
from service.cli import answers, reports, tables
from service.cli.arguments import moment
from service.cli.exit_codes import INTERRUPTED, Exit
from service.cli.phrases import EXAMPLES, LOCAL, LOCAL_ONLY, REASONS
from service.demo import sample
from service.engine.database import migrate, open_pool
from service.engine.job import JobType, TimeMode, find
from service.engine.run import RunRequest, RunResult
from service.errors import (
    AlreadyRunning,
    BadRequest,
    ConfigurationError,
    DashboardBusy,
    ServiceError,
    SourceUnavailable,
    UnknownJob,
    UnknownJobType,
)
from service.jobs import all_jobs
from service.messages.preview import Ask
from service.settings import Settings, unread
from service.setup import parts, timings
from service.setup.databases import find_databases
from service.zones import zone_of

_COPIED = ("users", "goals", "timer_sessions")
_USAGE = (ConfigurationError, BadRequest, UnknownJob, UnknownJobType)
_AWAY = (SourceUnavailable, asyncpg.PostgresConnectionError, ConnectionError)

out = Console()
err = Console(stderr=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, and turn every expected error into one clear line."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.load(also=parts.problems_of)
        on_terminal = sys.stderr.isatty()
        as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
        quiet = options.command not in {"serve"} and settings.log_level == "info"
        log.configure("warning" if quiet else settings.log_level, json=as_json)
        return int(_run(options.act(settings, options)))
    except _USAGE as error:
        for problem in getattr(error, "problems", [str(error)]):
            err.print(f"[red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
        return Exit.WRONG_USE
    except _AWAY as error:
        err.print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return Exit.UNAVAILABLE
    except ServiceError as error:
        err.print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return Exit.FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(work: Coroutine[Any, Any, Exit]) -> Exit:
    """On uvloop where there is one."""
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
        afar = "" if name in LOCAL_ONLY else " (with --url URL it asks a running service)"
        example = f"example: python -m service {EXAMPLES[name]}{afar}"
        made = commands.add_parser(name, help=text, description=text, epilog=example)
        made.set_defaults(act=act)
        made.add_argument("--json", action="store_true", help="print JSON for scripts")
        return made

    command("serve", _serve)
    command("demo", _demo)
    command("jobs", _jobs)
    run = command("run", _run_job)
    run.add_argument("type", help="reminder or analytics")
    run.add_argument("name", help="for example goalDeadlines")
    run.add_argument("--dry-run", action="store_true", help="decide, write nothing")
    run.add_argument("--as-of", type=moment, metavar="TIME", help="another moment, ISO 8601 with a zone")
    run.add_argument("--user", metavar="ID", help="one user only")
    run.add_argument("--force", action="store_true", help="send even if it was sent before (needs --user)")
    run.add_argument(
        "--confirm", action="store_true", help="dataCleanup: more than 20 %% of the sessions may go"
    )
    preview = command("preview", _preview)
    preview.add_argument("name", help="for example weeklyReview")
    preview.add_argument("--user", metavar="ID", help="what this user would get; without: a sample")
    preview.add_argument("--at", type=moment, metavar="TIME", help="at another moment (needs --user)")
    preview.add_argument("--variant", help="which sample, for example streak")
    preview.add_argument("--locale", help="in another language")
    preview.add_argument("--format", choices=("text", "html", "source"), default="text")
    preview.add_argument("--to", metavar="ADDRESS", help="send it there, once, marked as a test")
    explain = command("explain", _explain)
    explain.add_argument("name", help="for example goalDeadlines")
    explain.add_argument("--user", metavar="ID", required=True)
    explain.add_argument("--at", type=moment, metavar="TIME", help="default now; ISO 8601 with a zone")
    _figures(command)
    archive = command("archive", _archive)
    archive.add_argument("what", choices=("list", "verify"))
    restore = command("restore", _restore)
    restore.add_argument("--month", type=_month, required=True, metavar="YYYY-MM")
    restore.add_argument("--table", choices=(SESSIONS,), default=SESSIONS, help="what to put back")
    user = command("user", _user)
    user.add_argument("what", choices=("export", "erase"))
    user.add_argument("id", metavar="ID")
    sync = command("sync", _sync)
    sync.add_argument(
        "--confirm", choices=_COPIED, metavar="TABLE",
        help="rows that are missing at the dashboard are gone for good: users, goals or timer_sessions",
    )  # fmt: skip
    command("migrate", _migrate)
    check = command("check-config", _check_config)
    check.add_argument(
        "--offline", action="store_true", help="connect to nothing, which is what it does anyway"
    )
    return parser


def _figures(command: Callable[..., argparse.ArgumentParser]) -> None:
    forecast = command("forecast", _forecast)
    forecast.add_argument("--days", type=_days, default=7, metavar="N", help="how far to look; default 7")
    forecast.add_argument("--job", metavar="NAME", help="only this reminder")
    forecast.add_argument(
        "--exact", action="store_true", help="ask the job itself about its next slot (needs --job)"
    )
    analytics = command("analytics", _analytics)
    analytics.add_argument("view", choices=reports.VIEWS)
    _range(analytics, ("table", *Format), "table")
    analytics.add_argument("--kind", choices=figures.KINDS, default="weekly", help="cohorts by week or month")
    analytics.add_argument(
        "--mode", choices=("exact", "unbounded"), default="exact", help="active in period n, or in n or later"
    )
    export = command("export", _export)
    export.add_argument("table", choices=TABLES)
    _range(export, tuple(Format), "csv")


def _range(parser: argparse.ArgumentParser, formats: tuple[str, ...], default: str) -> None:
    parser.add_argument("--from", dest="since", type=reports.day, metavar="DATE", help="first date, included")
    parser.add_argument("--to", dest="until", type=reports.day, metavar="DATE", help="last date, included")
    parser.add_argument("--format", choices=[str(one) for one in formats], default=default)
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


# ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────


async def _serve(settings: Settings, _options: argparse.Namespace) -> Exit:
    await server.serve(settings)
    return Exit.DONE


async def _jobs(settings: Settings, options: argparse.Namespace) -> Exit:
    jobs = all_jobs()
    now = datetime.now(UTC)  # noqa: TID251 — a listing for a person, nothing is decided by it
    rows = []
    for id_, timing in timings.timings_of(jobs, settings).items():
        zone = zone_of(
            settings.default_timezone if timing.mode is TimeMode.USER else settings.service_timezone
        )
        slot = timing.schedule.next(zone, now)
        rows.append(
            {
                "type": str(jobs[id_].type),
                "name": jobs[id_].name,
                "schedule": timing.schedule.expression,
                "clock": "each user's" if timing.mode is TimeMode.USER else str(zone),
                "nextLocal": f"{slot.local:%a %d %b %H:%M} {zone}",
                "nextUtc": slot.at.isoformat().replace("+00:00", "Z"),
            }
        )
    _print(rows, options, title="Jobs")
    return Exit.DONE


async def _run_job(settings: Settings, options: argparse.Namespace) -> Exit:
    job = find(all_jobs(), options.type, options.name)
    asked = RunRequest(
        dry_run=options.dry_run, as_of=options.as_of, user_id=options.user, force=options.force,
        confirm=options.confirm,
    )  # fmt: skip
    with _bar(options) as progress:
        async with app.open_service(settings, progress=_reporter(progress)) as service:
            result = await service.runner.run_manual(job.id, asked)
            if not options.dry_run:
                await _drain(service)
    if options.json:
        out.print_json(data={"runId": result.run_id, "state": result.state, "counts": result.counts})
    else:
        _tell_run(job.name, result)
    return Exit.DONE if result.state == "succeeded" else Exit.FAILED


async def _preview(settings: Settings, options: argparse.Namespace) -> Exit:
    ask = Ask(JobType.REMINDER, options.name, options.user, options.at, options.variant, options.locale)
    async with app.open_service(settings) as service:
        if options.to:
            message_id = await service.previewer.send_test(ask, options.to, "command line")
            _print([{"to": options.to, "messageId": message_id}], options, title="Sent")
            return Exit.DONE
        found = await service.previewer.preview(ask)
    if options.json:
        out.print_json(data=asdict(found))
    else:
        sys.stdout.write(
            f"{found.subject}\n\n{found.text}" if options.format == "text" else getattr(found, options.format)
        )
    return Exit.DONE


async def _explain(settings: Settings, options: argparse.Namespace) -> Exit:
    async with app.open_service(settings) as service:
        found = await service.explainer.explain(options.name, options.user, options.at)
    if options.json:
        out.print_json(data=found)
        return Exit.DONE
    out.print(f"{found['conclusion']}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
    slot = found["slot"]
    where = f"its slot {slot['local']} ({slot['group']}), {found['when']}" if slot else "no slot that day"
    out.print(
        f"{found['job']} for {found['userId']}: {where}\n", markup=False, highlight=False, soft_wrap=True
    )
    for what, rows in found["recorded"].items():
        shown = [{key: "" if row[key] is None else str(row[key]) for key in _RECORDED[what]} for row in rows]
        if shown:
            _print(shown, options, title=f"Recorded {what}")
    for channel, told in found["rules"].items():
        rules = [
            {
                "rule": rule["rule"],
                "verdict": rule["reason"] or rule["verdict"].replace("_", " "),
                "detail": rule["detail"],
            }
            for rule in told
        ]
        _print(rules, options, title=f"JobRules for {channel}")
    return Exit.DONE


_RECORDED = {
    "runs": ("id", "trigger", "state", "reason", "nominalAt"),
    "deliveries": ("id", "channel", "state", "reason", "notBefore", "settledAt"),
    "decisions": ("runId", "reason", "detail", "decidedAt"),
}


async def _forecast(settings: Settings, options: argparse.Namespace) -> Exit:
    if options.exact and not options.job:
        raise BadRequest("--exact needs --job: asking everybody is for one job and its next slot")
    async with app.open_service(settings) as service:
        asked = service.forecaster
        found = await (
            asked.exactly(options.job) if options.exact else asked.bound(options.days, options.job)
        )
    if options.json:
        out.print_json(data=found)
    else:
        blocks = answers.forecast({"data": found})
        shown = tables.for_people(blocks, out.width) if out.is_terminal else tables.for_programs(blocks)
        sys.stdout.write(shown)
    return Exit.DONE


async def _analytics(settings: Settings, options: argparse.Namespace) -> Exit:
    await reports.show(settings, options, out)
    return Exit.DONE


async def _export(settings: Settings, options: argparse.Namespace) -> Exit:
    await reports.write_table(settings, options)
    return Exit.DONE


async def _archive(settings: Settings, options: argparse.Namespace) -> Exit:
    async with app.open_service(settings) as service:
        files = await service.archive.files(service.pool)
        states = {file.name: file.state for file in files}
        rows, bad = [], False
        for manifest in service.archive.manifests():
            name, proof = manifest.name, manifest.proof
            row = {
                "table": name.collection,
                "month": f"{name.month:%Y-%m}",
                "sessions": f"{proof.rows:,}",
                "bytes": f"{proof.bytes:,}",
                "state": states.get(name, "not known here"),
                "file": name.data,
            }
            if options.what == "verify":
                problem = await service.archive.problem(manifest, files)
                row["verdict"], bad = problem or "whole", bad or problem is not None
            rows.append(row)
        lost = service.archive.lost(files)
    for name in lost:
        err.print(f"[red]✗[/] {name.data} is missing in {settings.data_dir / 'archive'}", soft_wrap=True)
    _print(rows, options, title="Archive", empty="nothing is archived")
    return Exit.FAILED if bad or lost else Exit.DONE


async def _restore(settings: Settings, options: argparse.Namespace) -> Exit:
    async with app.open_service(settings) as service:
        found = await service.archive.restore(options.month)
    if options.json:
        out.print_json(data=asdict(found))
    else:
        out.print(
            f"{options.month:%Y-%m}: the file is whole, {found.rows:,} sessions."
            f" {found.put_back:,} were put back, {found.already_there:,} were there,"
            f" {found.refused:,} were refused by the dashboard.",
            soft_wrap=True,
        )
    return Exit.FAILED if found.refused else Exit.DONE


async def _user(settings: Settings, options: argparse.Namespace) -> Exit:
    async with app.open_service(settings) as service:
        if options.what == "export":
            found = await service.people.export(options.id)
        else:
            found = await service.people.erase(options.id, "command line")
    out.print_json(data=found)
    return Exit.DONE


async def _sync(settings: Settings, options: argparse.Namespace) -> Exit:
    accepted = None
    with _bar(options) as progress:
        async with app.open_service(settings, progress=_reporter(progress)) as service:
            if options.confirm:
                accepted = await service.sync.confirm(options.confirm, "command line")
            try:
                await service.sync.run_once(sweep=True)
            except DashboardBusy:
                if accepted is None:
                    raise  # else the process that is at it deletes them
            health = service.sync.health()
    rows = [{"what": name, "value": str(value)} for name, value in health.items()]
    if accepted is not None:
        rows.insert(0, {"what": "accepted", "value": f"{accepted} {options.confirm} are gone"})
    _print(rows, options, title="Dashboard")
    return Exit.DONE if health["healthy"] else Exit.FAILED


async def _migrate(settings: Settings, options: argparse.Namespace) -> Exit:
    databases = await find_databases(settings)
    pool = await open_pool(databases.ours)
    try:
        applied = await migrate(pool, settings.default_timezone)
    finally:
        await pool.close()
    _print([{"applied": name} for name in applied], options, title="Migrations", empty="nothing to do")
    return Exit.DONE


async def _check_config(settings: Settings, options: argparse.Namespace) -> Exit:
    """What is wrong was told when the settings were read."""
    warnings = [*parts.composer_of(settings).warnings, *unread()]
    await parts.tracing_for(settings, "check-config").close()
    rows = [{"setting": name.upper(), "value": str(value)} for name, value in settings.described().items()]
    _print(rows, options, title="Configuration")
    if (signer := parts.signer_of(settings)) and not options.json:
        out.print(f"\nDNS record for DKIM: {signer.txt_name} TXT {signer.txt_record}", soft_wrap=True)
    for warning in warnings:
        err.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    return Exit.DONE


async def _demo(settings: Settings, options: argparse.Namespace) -> Exit:
    """Everything for real, on this machine: people, PostgreSQL, mails, and the pages to look at them."""
    token = settings.admin_token or secrets.token_urlsafe(16)
    settings = settings.model_copy(update={"admin_token": token})
    stop = asyncio.Event()
    server.stop_on_signals(stop)
    out.print("[bold]Starting[/] PostgreSQL and the sample dashboard …")
    async with app.open_service(settings) as service:
        if service.databases.sample:
            today = (await service.ledger.now()).date()
            await sample.write(service.databases.dashboard, sample.people(1, today, days=_DEMO_DAYS))
        http = await server.listen(service, inbox_page=settings.loopback)
        try:
            result = await service.runner.run_manual("reminder.goalDeadlines")
            await _drain(service)
            await _tell_demo(service, settings, result, token, options)
            await service.manager.initialize()
            await _analyse(service, stop)
            await stop.wait()
        finally:
            await service.manager.shutdown()
            await http.cleanup()
    return Exit.DONE


_DEMO_DAYS = 120
_STATISTICS = ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")


async def _analyse(service: app.Service, stop: asyncio.Event) -> None:
    """Count what the sample's people did, so that the console has something to show at once."""
    for name in _STATISTICS:
        if stop.is_set():
            return
        with suppress(AlreadyRunning):  # its slot is just now: that will do
            await service.runner.run_manual(f"analytics.{name}")


async def _drain(service: app.Service) -> None:
    """Send what was planned, as far as it is due now."""
    while await service.delivery.run_once():
        continue
    while service.inbox and await service.inbox.run_once():
        continue


# ── Printing ────────────────────────────────────────────────────────────────────────────────────────────────


def _tell_run(name: str, result: RunResult) -> None:
    table = Table(title=f"{name}: {result.state}", title_justify="left", box=None, show_header=False)
    for reason, n in sorted(result.counts.items(), key=lambda pair: -pair[1]):
        table.add_row(f"{n:,}", REASONS.get(reason, reason), f"[dim]{reason}[/]")
    out.print(table if result.counts else f"{name}: {result.state}, nobody to write to")
    if result.error:
        err.print(result.error.strip().splitlines()[-1])


async def _tell_demo(
    service: app.Service, settings: Settings, result: RunResult, token: str, options: argparse.Namespace
) -> None:
    states = await service.outbox.counts()
    people = await service.pool.fetchval("SELECT count(*) FROM service.users")
    zones = len({zone for zone, _ in await service.ledger.places()})
    base = settings.own_base
    if options.json:
        out.print_json(
            data={
                "counts": result.counts,
                "deliveries": states,
                "people": people,
                "url": base,
                "token": token,
            }
        )
        return
    out.print(
        f"\n[bold]{people} people in {zones} time zones.[/] goalDeadlines ran for each one's own today.\n"
    )
    _tell_run("goalDeadlines", result)
    out.print(f"\nMails so far: {', '.join(f'{n} {state}' for state, n in sorted(states.items()))}")
    auth = f'-H "Authorization: Bearer {token}"'
    out.print(
        f"\n[bold]Open[/]\n  inbox      {base}/inbox\n  console    {base}/console  (token {token})"
        f"\n  analytics  {base}/console/analytics  (fills in a few seconds)"
        f"\n  contract   {base}/api/docs\n  metrics    {base}/metrics"
        f"\n\n[bold]Ask[/]\n  curl {auth} {base}/api/admin/jobs/status"
        f"\n  curl {auth} {base}/api/admin/jobs/history\n\nCtrl-C stops it.",
        highlight=False,
        soft_wrap=True,
    )


def _print(
    rows: list[dict[str, str]], options: argparse.Namespace, *, title: str, empty: str = "nothing"
) -> None:
    if options.json:
        out.print_json(data=rows)
        return
    if not rows:
        out.print(empty)
        return
    table = Table(title=title, title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    out.print(table)


def _bar(options: argparse.Namespace) -> Progress:
    """A bar for long work, on a terminal only."""
    shown = err.is_terminal and not options.json
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, disable=not shown, transient=True)


def _reporter(progress: Progress) -> Callable[[str, int], None]:
    tasks: dict[str, Any] = {}

    def report(collection: str, done: int) -> None:
        if collection not in tasks:
            tasks[collection] = progress.add_task(f"reading {collection}", total=None)
        progress.update(tasks[collection], completed=done)

    return report
