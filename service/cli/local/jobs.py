"""Jobs on this machine: list and run them, show what they would send, and say why."""

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table

from service import app
from service.cli import answers, tables
from service.cli.exit_codes import Exit
from service.cli.local.terminal import bar, err, out, print_rows, reporter
from service.cli.phrases import REASONS
from service.engine.job import JobType, TimeMode, find
from service.engine.run import RunRequest, RunResult
from service.errors import BadRequest
from service.jobs import all_jobs
from service.messages.preview import PreviewRequest
from service.settings import Settings
from service.setup.timings import timings_of
from service.zones import zone_of


async def list_jobs(settings: Settings, options: argparse.Namespace) -> Exit:
    """Every job with its next slot, local and UTC."""
    jobs = all_jobs()
    now = datetime.now(UTC)  # noqa: TID251 — a listing for a person, nothing is decided by it
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
                "nextUtc": slot.at.isoformat().replace("+00:00", "Z"),
            }
        )
    print_rows(rows, options, title="Jobs")
    return Exit.DONE


async def run_job(settings: Settings, options: argparse.Namespace) -> Exit:
    """Run one job now, and send what it planned."""
    job = find(all_jobs(), options.type, options.name)
    asked = RunRequest(
        dry_run=options.dry_run, as_of=options.as_of, user_id=options.user, force=options.force,
        confirm=options.confirm,
    )  # fmt: skip
    with bar(options) as progress:
        async with app.open_service(settings, progress=reporter(progress)) as service:
            result = await service.runner.run_manual(job.id, asked)
            if not options.dry_run:
                await drain(service)
    if options.json:
        out.print_json(data={"runId": result.run_id, "state": result.state, "counts": result.counts})
    else:
        tell_run(job.name, result)
    return Exit.DONE if result.state == "succeeded" else Exit.FAILED


async def drain(service: app.Service) -> None:
    """Send what was planned, as far as it is due now."""
    while await service.delivery.run_once():
        continue
    while service.inbox and await service.inbox.run_once():
        continue


def tell_run(name: str, result: RunResult) -> None:
    """What a run did, counted by reason."""
    table = Table(title=f"{name}: {result.state}", title_justify="left", box=None, show_header=False)
    for reason, n in sorted(result.counts.items(), key=lambda pair: -pair[1]):
        table.add_row(f"{n:,}", REASONS.get(reason, reason), f"[dim]{reason}[/]")
    out.print(table if result.counts else f"{name}: {result.state}, nobody to write to")
    if result.error:
        err.print(result.error.strip().splitlines()[-1])


async def preview(settings: Settings, options: argparse.Namespace) -> Exit:
    """Show the mail that a job would write; ``--to`` sends it, marked as a test."""
    ask = PreviewRequest(
        JobType.REMINDER, options.name, options.user, options.at, options.variant, options.locale
    )
    async with app.open_service(settings) as service:
        if options.to:
            message_id = await service.previewer.send_test(ask, options.to, "command line")
            print_rows([{"to": options.to, "messageId": message_id}], options, title="Sent")
            return Exit.DONE
        found = await service.previewer.preview(ask)
    if options.json:
        out.print_json(data=asdict(found))
    else:
        sys.stdout.write(
            f"{found.subject}\n\n{found.text}" if options.format == "text" else getattr(found, options.format)
        )
    return Exit.DONE


async def explain(settings: Settings, options: argparse.Namespace) -> Exit:
    """Why somebody did, did not, or will (not) get a message."""
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
            print_rows(shown, options, title=f"Recorded {what}")
    for channel, told in found["rules"].items():
        rules = [
            {
                "rule": rule["rule"],
                "verdict": rule["reason"] or rule["verdict"].replace("_", " "),
                "detail": rule["detail"],
            }
            for rule in told
        ]
        print_rows(rules, options, title=f"Rules for {channel}")
    return Exit.DONE


_RECORDED = {
    "runs": ("id", "trigger", "state", "reason", "nominalAt"),
    "deliveries": ("id", "channel", "state", "reason", "notBefore", "settledAt"),
    "decisions": ("runId", "reason", "detail", "decidedAt"),
}


async def forecast(settings: Settings, options: argparse.Namespace) -> Exit:
    """How many messages each reminder will send."""
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
