"""Local commands for stored data: figures, archive, one person's data, the copy and the schema."""

import argparse
from dataclasses import asdict

from service import app
from service.cli import reports
from service.cli.exit_codes import Exit
from service.cli.local.terminal import err, out, print_rows, progress_bar, reporter
from service.errors import DashboardBusy
from service.settings import Settings
from service.setup.databases import connect, find_databases, migrate


async def analytics(settings: Settings, options: argparse.Namespace) -> Exit:
    """Print figures of a range, or write them to a file."""
    await reports.show(settings, options, out)
    return Exit.DONE


async def export(settings: Settings, options: argparse.Namespace) -> Exit:
    """Export a whole analytics table."""
    await reports.write_table(settings, options)
    return Exit.DONE


async def archive(settings: Settings, options: argparse.Namespace) -> Exit:
    """List the archived months; ``verify`` reads every file, and fails if one is damaged or missing."""
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
        lost = service.archive.missing_files(files)
    for name in lost:
        err.print(f"[red]✗[/] {name.data} is missing in {settings.data_dir / 'archive'}", soft_wrap=True)
    print_rows(rows, options, title="Archive", empty="nothing is archived")
    return Exit.FAILED if bad or lost else Exit.DONE


async def restore(settings: Settings, options: argparse.Namespace) -> Exit:
    """Put a month's archived sessions back into the dashboard."""
    async with app.open_service(settings) as service:
        result = await service.archive.restore(options.month)
    if options.json:
        out.print_json(data=asdict(result))
    else:
        out.print(
            f"{options.month:%Y-%m}: the file is whole, {result.rows:,} sessions."
            f" {result.put_back:,} were put back, {result.already_there:,} were there,"
            f" {result.refused:,} were refused by the dashboard.",
            soft_wrap=True,
        )
    return Exit.FAILED if result.refused else Exit.DONE


async def user(settings: Settings, options: argparse.Namespace) -> Exit:
    """Export or erase everything that is stored about one person; prints JSON."""
    async with app.open_service(settings) as service:
        if options.what == "export":
            data = await service.people.export(options.id)
        else:
            data = await service.people.erase(options.id, "command line")
    out.print_json(data=data)
    return Exit.DONE


async def sync(settings: Settings, options: argparse.Namespace) -> Exit:
    """Copy what changed at the dashboard.

    ``--confirm`` first accepts that rows of a table were deleted; ``--full`` reads every row again.
    """
    accepted = None
    with progress_bar(options) as progress:
        async with app.open_service(settings, progress=reporter(progress)) as service:
            if options.confirm:
                accepted = await service.sync.confirm_loss(options.confirm, "command line", options.reason)
            try:
                await service.sync.run_once(compare=True, full=options.full)
            except DashboardBusy:
                if accepted is None:
                    raise  # otherwise the process that holds the lock deletes them
            health = service.sync.health()
    rows = [{"what": name, "value": str(value)} for name, value in health.items()]
    if accepted is not None:
        rows.insert(0, {"what": "accepted", "value": f"{accepted} {options.confirm} are gone"})
    print_rows(rows, options, title="Dashboard")
    return Exit.DONE if health["healthy"] else Exit.FAILED


async def migrate_schema(settings: Settings, options: argparse.Namespace) -> Exit:
    """Bring our database's schema up to date."""
    databases = await find_databases(settings)
    pool = await connect(settings, databases.service, attempts=1)
    try:
        applied = await migrate(pool, databases.service, settings.default_timezone)
    finally:
        await pool.close()
    print_rows([{"applied": name} for name in applied], options, title="Migrations", empty="nothing to do")
    return Exit.DONE
