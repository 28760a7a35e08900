"""Local commands for the service: serve, demo, check-config."""

import argparse
import asyncio
import secrets
from contextlib import suppress

from rich.markup import escape

from service import app, server
from service.cli.exit_codes import Exit
from service.cli.local.jobs import print_run, send_due
from service.cli.local.terminal import err, out, print_rows
from service.demo import sample
from service.engine.run import RunResult
from service.errors import AlreadyRunning
from service.jobs import all_jobs
from service.messages.reminder import kinds_of
from service.settings import Settings, unread
from service.setup import parts, preflight
from service.stopping import Shutdown


async def serve(settings: Settings, _options: argparse.Namespace) -> Exit:
    """Run the service until SIGTERM or Ctrl-C."""
    return Exit(await server.serve(settings))


async def check_config(settings: Settings, options: argparse.Namespace) -> Exit:
    """Print the settings, and what they lead to unless ``--offline``.

    Invalid settings have been reported when they were loaded.
    """
    kinds = kinds_of(all_jobs(settings.job_packages)).values()
    warnings = [*parts.composer_of(settings, kinds).warnings, *unread()]
    await parts.tracing_for(settings, "check-config").close()
    findings = {} if options.offline else await preflight.check_connections(settings, kinds)
    rows = [{"setting": name.upper(), "value": str(value)} for name, value in settings.described().items()]
    rows += [{"setting": name, "value": fact} for name, one in findings.items() for fact in one.facts]
    print_rows(rows, options, title="Configuration")
    if (signer := parts.signer_of(settings)) and not options.json:
        out.print(f"\nDNS record for DKIM: {signer.txt_name} TXT {signer.txt_record}", soft_wrap=True)
    for warning in (*warnings, *(warning for one in findings.values() for warning in one.warnings)):
        err.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    problems = [problem for one in findings.values() for problem in one.problems]
    for problem in problems:
        err.print(f"[red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
    return Exit.UNAVAILABLE if problems else Exit.DONE


async def demo(settings: Settings, options: argparse.Namespace) -> Exit:
    """Run the service with sample data, an embedded PostgreSQL and a local inbox."""
    token = settings.admin_token or secrets.token_urlsafe(16)
    settings = settings.model_copy(update={"admin_token": token})
    shutdown = Shutdown(settings.shutdown_grace_seconds)
    shutdown.listen()
    stop = shutdown.stop
    out.print("[bold]Starting[/] PostgreSQL and the sample dashboard …")
    async with app.open_service(settings) as service:
        if service.databases.sample:
            today = (await service.ledger.now()).date()
            await sample.write(service.databases.dashboard, sample.people(1, today, days=_DEMO_DAYS))
        http = await server.listen(service, inbox_page=settings.loopback)
        try:
            result = await service.runner.run_manual("reminder.goalDeadlines")
            await send_due(service)
            await _print_demo(service, settings, result, token, options)
            await service.manager.initialize()
            await _run_statistics(service, stop)
            await stop.wait()
        finally:
            await service.manager.shutdown()
            await http.cleanup()
    shutdown.closed(embedded=True)
    return Exit.DONE


_DEMO_DAYS = 120
_STATISTICS = ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")


async def _run_statistics(service: app.Service, stop: asyncio.Event) -> None:
    """Compute the statistics of the sample data, so that the console shows figures at once."""
    for name in _STATISTICS:
        if stop.is_set():
            return
        with suppress(AlreadyRunning):  # the same job runs already
            await service.runner.run_manual(f"analytics.{name}")


async def _print_demo(
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
    print_run("goalDeadlines", result)
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
