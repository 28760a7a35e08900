"""How a run ends and how that is recorded: transient errors put it back, all others end it."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from enum import Enum, auto
from itertools import count

import structlog

from service.clock import Clock
from service.engine.database_errors import first_transient, is_transient
from service.engine.fault_log import one_line
from service.engine.ledger import Ledger, Run
from service.engine.run import RunState, Trigger
from service.errors import (
    ArchiveDamaged,
    CleanupRefused,
    DashboardBusy,
    DashboardIncomplete,
    JobOff,
    LeaseLost,
    NotYet,
    RunCancelled,
    SchemaUnknown,
    SourceUnavailable,
)

log = structlog.get_logger()

REFUSED = (CleanupRefused, ArchiveDamaged)
"""Errors for an operator: their sentence says everything, no traceback is stored."""
_TOO_MANY_ERRORS = 0.2
_USER_ERRORS = "user_error"
"""The name under which people whose failure did not stop a run are counted."""
PASSED_OVER = "passed_over"
"""Those of them that no attempt came past: trying again would end more processes."""
_CANCELLED = "cancelled on request"
_DASHBOARD_PAUSE = timedelta(seconds=30)
_BUSY_PAUSE = timedelta(seconds=2)
_DEPENDENCY_PAUSE = timedelta(minutes=1)
_RETRY_PAUSE = timedelta(minutes=1)
"""For each attempt since the run last advanced."""
_RELEASE = 3.0
"""Seconds that a process which stops waits for the release of a run."""
_WRITE_PAUSE = 1.0
"""Seconds between two attempts to record how a run ended."""


class StopReason(Enum):
    """Why a run is stopped from outside."""

    LEASE_LOST = auto()
    CANCELLED = auto()


class RunEnd:
    """Records how runs end."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def write(
        self, run: Run, write: Callable[[], Awaitable[None]], error: Exception | None = None
    ) -> None:
        """Record how a run ended; retry while the database fails, as long as the lease may still be ours.

        ``error``: what ended it, for the log if that cannot be recorded; then another process takes the run
        over when its lease expires. Raises LeaseLost.
        """
        lease = self._ledger.lease.total_seconds()
        until = self._clock.monotonic() + lease
        log_fields = {"job": run.job, "run": run.id, "ended_by": one_line(error) if error else None}
        for tries in count(1):
            try:
                async with asyncio.timeout(lease / 3):
                    return await write()
            except LeaseLost:
                if tries == 1:
                    raise
                return None  # it is recorded and only the answer was lost, or another process has the run
            except Exception as failed:
                if not is_transient(failed):
                    log.error("the end of a run cannot be written", **log_fields, error=one_line(failed))  # noqa: TRY400
                    raise
                if self._clock.monotonic() > until:
                    log.error("the end of a run cannot be written", **log_fields, error=one_line(failed))  # noqa: TRY400
                    return None
                if tries == 1:
                    log.warning(
                        "the end of a run cannot be written yet", **log_fields, error=one_line(failed)
                    )
            await asyncio.sleep(min(_WRITE_PAUSE, lease / 10))
        return None

    async def hand_over(self, run: Run) -> None:
        """Release the run as this process stops; if that fails, it can be claimed when its lease expires."""
        try:
            async with asyncio.timeout(min(_RELEASE, self._ledger.lease.total_seconds() / 3)):
                await self._ledger.release(run)
        except Exception as error:  # noqa: BLE001 — the process stops, whatever happens
            log.warning("run not handed over", job=run.job, run=run.id, error=one_line(error))

    async def ended(self, run: Run, end: Sequence[str] | StopReason) -> None:
        if isinstance(end, StopReason):
            await self._stopped(run, end)
        else:
            await self._succeed(run, end)

    async def failed(self, run: Run, error: Exception) -> None:
        """Put the run back after a transient error; end it after any other."""
        if isinstance(error, RunCancelled):
            return await self._ledger.finish(run, RunState.CANCELLED, reason=_CANCELLED)
        if isinstance(error, (SourceUnavailable, NotYet, JobOff)) or is_transient(error):
            return await self._put_back(run, error)
        if isinstance(error, SchemaUnknown):
            return await self._ledger.finish(run, RunState.FAILED, reason="schema_unknown", error=str(error))
        if isinstance(error, REFUSED):
            return await self._ledger.finish(run, RunState.FAILED, reason="refused", error=str(error))
        return await self._ledger.fail(run, _traceback(error))

    async def _put_back(self, run: Run, error: Exception) -> None:
        """Put the run back; only errors of our own use up an attempt."""
        if isinstance(error, JobOff):
            await self._ledger.finish(run, RunState.SKIPPED, reason=str(error))
        elif isinstance(error, DashboardIncomplete):
            await self._hold(run, error)
        elif isinstance(error, DashboardBusy):
            await self._ledger.wait_for(run, _BUSY_PAUSE, str(error))
        elif isinstance(error, SourceUnavailable):
            await self._ledger.wait_for_dashboard(run, _DASHBOARD_PAUSE, str(error))
        elif isinstance(error, NotYet):
            await self._ledger.wait_for(run, _DEPENDENCY_PAUSE, str(error))
        else:
            await self._ledger.retry_later(run, _RETRY_PAUSE, _traceback(first_transient(error)))

    async def _hold(self, run: Run, error: DashboardIncomplete) -> None:
        """A slot waits as long as it is useful; a manual run fails at once."""
        if run.trigger is Trigger.MANUAL:
            await self._ledger.finish(run, RunState.FAILED, reason="refused", error=str(error))
            return
        await self._ledger.wait_for(
            run, _DASHBOARD_PAUSE, f"waiting for {', '.join(error.names)} at the dashboard"
        )

    async def _succeed(self, run: Run, errors: Sequence[str]) -> None:
        current = await self._ledger.get(run.id)
        counts, total = (current.counts, current.done) if current else ({}, 0)
        failed, state = counts.get(_USER_ERRORS, 0), RunState.SUCCEEDED
        if failed:
            too_many = failed - counts.get(PASSED_OVER, 0) > total * _TOO_MANY_ERRORS
            state = RunState.FAILED if too_many else RunState.PARTIAL
        await self._ledger.finish(run, state, error=errors[0] if errors else None)

    async def _stopped(self, run: Run, why: StopReason) -> None:
        if why is StopReason.LEASE_LOST:
            raise LeaseLost(f"run {run.id} of {run.job}: the lease could not be kept")
        await self._ledger.finish(run, RunState.CANCELLED, reason=_CANCELLED)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
