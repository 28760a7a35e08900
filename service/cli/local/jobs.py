"""Local commands for jobs: list, run, preview, explain, forecast."""

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table

from service import app
from service.cli import answers, tables
from service.cli.exit_codes import Exit
from service.cli.local.terminal import err, out, print_rows, progress_bar, reporter
from service.cli.phrases import REASONS
from service.engine.job import JobType, TimeMode, find
from service.engine.run import RunRequest, RunResult
from service.errors import BadRequest
from service.jobs import all_jobs
from service.messages.preview import PreviewRequest
from service.settings import Settings
from service.setup.timings import timings_of
from service.zones import iso, zone_of


async def list_jobs(settings: Settings, options: argparse.Namespace) -> Exit:
    """List every job with its next slot, local and UTC."""
    jobs = all_jobs(settings.job_packages)
    now = datetime.now(UTC)  # noqa: TID251 — for display only
    rows = []
    for id_, timing in timings_of(jobs, settings).items():
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
                "nextUtc": iso(slot.at),
            }
        )
    print_rows(rows, options, title="Jobs")
    return Exit.DONE


async def run_job(settings: Settings, options: argparse.Namespace) -> Exit:
    """Run one job now, and send what it planned."""
    job = find(all_jobs(settings.job_packages), options.type, options.name)
    request = RunRequest(
        dry_run=options.dry_run, as_of=options.as_of, user_id=options.user, force=options.force,
        confirm=options.confirm,
    )  # fmt: skip
    with progress_bar(options) as progress:
        async with app.open_service(settings, progress=reporter(progress)) as service:
            result = await service.runner.run_manual(job.id, request)
            if not options.dry_run:
                await send_due(service)
    if options.json:
        out.print_json(data={"runId": result.run_id, "state": result.state, "counts": result.counts})
    else:
        print_run(job.name, result)
    return Exit.DONE if result.state == "succeeded" else Exit.FAILED


async def send_due(service: app.Service) -> None:
    """Send all planned messages that are due now; a server that refuses us is tried once."""
    while await service.delivery.run_once() and not service.delivery.problem:
        continue
    if problem := service.delivery.problem:
        err.print(f"Mails wait: {problem}", markup=False, highlight=False, soft_wrap=True)
    while service.inbox and await service.inbox.run_once():
        continue


def print_run(name: str, result: RunResult) -> None:
    """Print the counts of a run by reason."""
    table = Table(title=f"{name}: {result.state}", title_justify="left", box=None, show_header=False)
    for reason, n in sorted(result.counts.items(), key=lambda pair: -pair[1]):
        table.add_row(f"{n:,}", REASONS.get(reason, reason), f"[dim]{reason}[/]")
    out.print(table if result.counts else f"{name}: {result.state}, nobody to write to")
    if result.error:
        err.print(result.error.strip().splitlines()[-1])


async def preview(settings: Settings, options: argparse.Namespace) -> Exit:
    """Show the mail that a job would send; ``--to`` sends it, marked as a test."""
    request = PreviewRequest(
        JobType.REMINDER, options.name, options.user, options.at, options.variant, options.locale
    )
    async with app.open_service(settings) as service:
        if options.to:
            message_id = await service.previewer.send_test(request, options.to, "command line")
            print_rows([{"to": options.to, "messageId": message_id}], options, title="Sent")
            return Exit.DONE
        mail = await service.previewer.preview(request)
    if options.json:
        out.print_json(data=asdict(mail))
    else:
        sys.stdout.write(
            f"{mail.subject}\n\n{mail.text}" if options.format == "text" else getattr(mail, options.format)
        )
    return Exit.DONE


async def explain(settings: Settings, options: argparse.Namespace) -> Exit:
    """Explain why a user did or did not get a message, or will."""
    async with app.open_service(settings) as service:
        explanation = await service.explainer.explain(options.name, options.user, options.at)
    if options.json:
        out.print_json(data=explanation)
        return Exit.DONE
    out.print(f"{explanation['conclusion']}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
    slot = explanation["slot"]
    slot_text = (
        f"its slot {slot['local']} ({slot['group']}), {explanation['when']}" if slot else "no slot that day"
    )
    out.print(
        f"{explanation['job']} for {explanation['userId']}: {slot_text}\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for table_name, rows in explanation["recorded"].items():
        values = [
            {key: "" if row[key] is None else str(row[key]) for key in _RECORD_COLUMNS[table_name]}
            for row in rows
        ]
        if values:
            print_rows(values, options, title=f"Recorded {table_name}")
    for channel, verdicts in explanation["rules"].items():
        rules = [
            {
                "rule": rule["rule"],
                "verdict": rule["reason"] or rule["verdict"].replace("_", " "),
                "detail": rule["detail"],
            }
            for rule in verdicts
        ]
        print_rows(rules, options, title=f"Rules for {channel}")
    return Exit.DONE


_RECORD_COLUMNS = {
    "runs": ("id", "trigger", "state", "reason", "nominalAt"),
    "deliveries": ("id", "channel", "state", "reason", "notBefore", "settledAt"),
    "decisions": ("runId", "reason", "detail", "decidedAt"),
}


async def forecast(settings: Settings, options: argparse.Namespace) -> Exit:
    """Forecast how many messages each reminder will send."""
    if options.exact and not options.job:
        raise BadRequest("--exact needs --job: asking everybody is for one job and its next slot")
    async with app.open_service(settings) as service:
        forecaster = service.forecaster
        data = await (
            forecaster.exact(options.job)
            if options.exact
            else forecaster.upper_bound(options.days, options.job)
        )
    if options.json:
        out.print_json(data=data)
    else:
        blocks = answers.forecast({"data": data})
        text = tables.for_people(blocks, out.width) if out.is_terminal else tables.for_programs(blocks)
        sys.stdout.write(text)
    return Exit.DONE
