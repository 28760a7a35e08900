"""dataCleanup: delete the service's own old rows; archive the dashboard's old sessions, if that is allowed.

``CLEANUP_MODE=report`` (default) and dry runs count what would be removed, by month. ``archive`` writes each
month's file, verifies it, and only then removes its sessions. It can be stopped at any time and continues
where it was: the state of each file is stored in the database (see ``service.archive.archive``).
"""

import asyncio
from datetime import date, datetime, timedelta

import structlog

from service.analytics import maintenance
from service.archive import expiry
from service.archive.archive import Archive, ArchiveFile
from service.archive.manifest import FileName, RetentionPolicy, months, too_much
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode
from service.errors import ArchiveDamaged, CleanupRefused

log = structlog.get_logger()

_ATTEMPTS = 3
"""How often a month is written in one run if its sessions are edited meanwhile."""


async def work(context: RunContext) -> None:
    """Delete our own rows first: that does not depend on the dashboard."""
    await _delete_expired(context)
    archive, policy = context.resources.get(Archive), context.resources[RetentionPolicy]
    if archive is None:
        return
    if policy.mode == "report" or context.tick.dry_run:
        if not context.tick.dry_run:
            await _rewrite_files(archive)
        due = await _report(context, archive)
        if policy.mode == "archive":
            await _require_allowed(context, archive, due)
        return
    async with archive.exclusive():
        archive_run = _ArchiveRun(context, archive)
        await archive_run.finish_started()
        await archive.rewrite()
        await maintenance.rebuild_stale_days(context)
        await _require_allowed(context, archive, await _count(context, archive))
        await archive_run.archive_all()
        await archive.rewrite()


async def _rewrite_files(archive: Archive) -> None:
    """Remove from the files what is no longer archived, above all what an erasure could not remove."""
    async with archive.exclusive():
        await archive.rewrite()


def _cutoff(context: RunContext) -> datetime:
    return context.tick.as_of - context.resources[RetentionPolicy].interval


async def _delete_expired(context: RunContext) -> None:
    policy, at = context.resources[RetentionPolicy], context.tick.as_of
    await _drop_refusal_months(context, at - policy.ledger)
    limits = [(expiry.FIGURES, at - policy.retention), (expiry.LEDGER, at - policy.ledger)]
    for table, cutoff in [(table, cutoff) for names, cutoff in limits for table in names]:
        deleted = expiry.BATCH
        while deleted == expiry.BATCH:
            async with context.step() as connection:
                deleted = await expiry.forget(connection, table, cutoff)
                await context.advance(
                    connection, context.cursor, deleted, _nonzero({f"{table}Forgotten": deleted})
                )


async def _drop_refusal_months(context: RunContext, cutoff: datetime) -> None:
    """A dry run only counts them: its transaction would keep everybody from deciding."""
    async with context.step() as connection:
        months = await expiry.old_refusal_months(connection, cutoff)
    for month in months:
        async with context.step() as connection:
            dropped = context.tick.dry_run or await expiry.drop_refusal_month(connection, month)
            counts = _nonzero({"refusalMonthsForgotten": int(dropped)})
            await context.advance(connection, context.cursor, 0, counts)


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if n}


async def _report(context: RunContext, archive: Archive) -> dict[date, int]:
    due = await _count(context, archive)
    async with context.step() as connection:
        counts = {f"wouldArchive.{month:%Y-%m}": n for month, n in due.items()}
        await context.advance(connection, context.cursor, 0, counts)
    return due


async def _count(context: RunContext, archive: Archive) -> dict[date, int]:
    """How many sessions of each month may be removed now; a step per month, since counting may take long."""
    async with context.step() as connection:
        oldest = await archive.oldest_end(connection)
    due: dict[date, int] = {}
    for month in months(oldest, _cutoff(context)):
        async with context.step() as connection:
            if n := await archive.count_due(connection, month, _cutoff(context)):
                due[month] = n
    return due


async def _require_allowed(context: RunContext, archive: Archive, due: dict[date, int]) -> None:
    """Raise CleanupRefused if rows may not be removed, or so many that an operator must confirm it."""
    if not due:
        return
    if obstacle := await archive.dashboard.removal_obstacle():
        raise CleanupRefused(obstacle)
    async with context.step() as connection:
        total = await archive.count_sessions(connection)
    n = sum(due.values())
    if too_much(n, total) and not context.tick.confirm:
        raise CleanupRefused(
            f"{n:,} of {total:,} sessions would be removed from the dashboard, more than 20 %; nothing was."
            " Look at a dry run, then run dataCleanup once with confirm"
        )


class _ArchiveRun:
    """The work on the archive in one run, within its time budget."""

    def __init__(self, context: RunContext, archive: Archive) -> None:
        self._context = context
        self._archive = archive
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + context.resources[RetentionPolicy].budget.total_seconds()

    async def finish_started(self) -> None:
        """Continue earlier runs: remove the sessions of verified files, discard unfinished files."""
        for file in await self._files():
            if file.state == "verified":
                await self._remove(file)
            elif file.state == "planned" or (file.state == "written" and not await self._resumed(file)):
                async with self._context.step() as connection:
                    await self._archive.discard(connection, file.name)

    async def _resumed(self, file: ArchiveFile) -> bool:
        """Verify a written file; False: it is damaged, and nothing was removed for it."""
        try:
            await self._verify(file)
        except ArchiveDamaged as error:
            log.warning("archive file given up", file=file.name.data, error=str(error))
            return False
        return True

    async def archive_all(self) -> None:
        """Archive each month with sessions to remove, oldest first, while there is time."""
        untidy = {file.month for file in await self._files() if file.leftovers}
        for month in sorted({*await _count(self._context, self._archive), *untidy}):
            edits = 0
            while edits < _ATTEMPTS and not self._out_of_time() and (file := await self._archive_some(month)):
                edits += bool(file.leftovers)
                await maintenance.rebuild_stale_days(self._context)

    async def _archive_some(self, month: date) -> ArchiveFile | None:
        """Write, verify and remove what may be removed of a month; None: there is nothing."""
        async with self._context.step() as connection:
            name = await self._archive.plan(connection, month)
            files = await self._archive.files(connection)
        force = any(file.leftovers for file in files if file.month == month)
        written = await self._archive.write(name, _cutoff(self._context), force=force)
        async with self._context.step() as connection:
            if written is None:
                await self._archive.discard(connection, name)
                return None
            await self._archive.record_written(connection, name, written)
        return await self._verify(await self._file(name))

    async def _verify(self, file: ArchiveFile) -> ArchiveFile:
        await self._archive.verify(file.name, file.proof)
        async with self._context.step() as connection:
            await self._archive.record_verified(connection, file.name)
        return await self._remove(await self._file(file.name))

    async def _remove(self, file: ArchiveFile) -> ArchiveFile:
        await self._archive.remove_old_files(file.month)
        for group in range(file.removed, file.fresh_groups):
            if self._out_of_time():
                break
            rows = await self._archive.rows(file.name, group)
            async with self._context.step() as connection:
                marked = await self._archive.mark_for_removal(connection, file.name, rows)
            not_removed = await self._archive.remove(marked)
            not_removed += {row.id for row in rows} - {row.id for row in marked}
            removed = len(rows) - len(not_removed)
            counts = _nonzero({f"archived.{file.month:%Y-%m}": removed, "edited": len(not_removed)})
            async with self._context.step() as connection:
                await self._archive.record_removed(connection, file.name, not_removed)
                await self._context.advance(connection, self._context.cursor, len(rows), counts)
        else:
            async with self._context.step() as connection:
                await self._archive.record_deleted(connection, file.name)
        return await self._file(file.name)

    async def _files(self) -> list[ArchiveFile]:
        async with self._context.step() as connection:
            return await self._archive.files(connection)

    async def _file(self, name: FileName) -> ArchiveFile:
        return next(file for file in await self._files() if file.name == name)

    def _out_of_time(self) -> bool:
        return self._clock() > self._deadline


JOB = Job(
    type=JobType.ANALYTICS,
    name="dataCleanup",
    about="Forget the service's own old rows; archive the dashboard's old sessions, if that is allowed.",
    schedule="0 4 * * *",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: local + timedelta(days=7),
    steps=work,
    timeout=timedelta(hours=2),
)
