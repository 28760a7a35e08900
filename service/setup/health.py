"""What this process reports about itself: health checks, and metrics for its heartbeat."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from service.analytics.runtime_metrics import RuntimeMetrics
from service.dashboard.sync import Sync
from service.engine.database_errors import FAILURES
from service.engine.ledger import Ledger
from service.engine.single_flight import SingleFlight
from service.engine.supervisor import Supervisor
from service.errors import SourceUnavailable
from service.messages.delivery import DeliveryLoop
from service.messages.in_app.inbox import DashboardInbox
from service.messages.mail.transport import Transport
from service.messages.outbox import Outbox

log = structlog.get_logger()
_DEADLINE = 3.0
"""Seconds after which health no longer waits for a server."""


async def heartbeat_report(ledger: Ledger, vitals: RuntimeMetrics, sync: Sync) -> dict[str, Any]:
    """The runtime metrics that each heartbeat stores."""
    postgres_ms, dashboard_ms = await asyncio.gather(_ping(ledger.now), _ping(sync.ping))
    return vitals.report() | {"postgresPingMs": postgres_ms, "dashboardPingMs": dashboard_ms}


async def _ping(request: Callable[[], Awaitable[Any]]) -> float | None:
    """How long an answer takes, in ms; None: no answer within five seconds."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(5):
            await request()
    except (*FAILURES, SourceUnavailable):
        return None
    return round(1000 * (loop.time() - started), 3)


async def released(ledger: Ledger) -> bool:
    """Whether this process holds nothing any more; False where nobody knows."""
    try:
        async with asyncio.timeout(1):
            return not await ledger.held()
    except FAILURES:
        return False


def gauges(pool: asyncpg.Pool, sync: Sync) -> dict[str, float | None]:
    size, idle = pool.get_size(), pool.get_idle_size()
    return {"poolSize": size, "poolBusy": size - idle, "changeStreamLag": sync.change_stream_lag()}


class DependencyChecks:
    """Each dependency's own view, for health; it waits for none of them for more than a few seconds."""

    def __init__(
        self,
        supervisor: Supervisor,
        delivery: DeliveryLoop,
        outbox: Outbox,
        transport: Transport,
        sync: Sync,
        notes: DashboardInbox | None,
    ) -> None:
        self._supervisor = supervisor
        self._delivery = delivery
        self._sync = sync
        self._notes = notes
        self._ping = SingleFlight(transport.ping, deadline=_DEADLINE)
        self._paused = SingleFlight(outbox.paused, deadline=_DEADLINE)

    async def report(self) -> dict[str, dict[str, Any]]:
        """The checks by name."""
        dashboard = self._sync.health()
        mail, paused = await asyncio.gather(self._mail_problem(), self._paused_domains())
        checks = {"inbox": _check(self._notes.problem)} if self._notes else {}
        return checks | {
            "dashboard": {"status": "running" if dashboard["healthy"] else "unhealthy", "details": dashboard},
            "mail": _check(mail, pausedDomains=paused),
            "loops": {
                "status": "running" if self._supervisor.healthy else "unhealthy",
                "details": self._supervisor.report(),
            },
        }

    async def _mail_problem(self) -> str | None:
        try:
            return self._delivery.problem or await self._ping.get()
        except TimeoutError:
            return f"the mail server has not answered within {_DEADLINE:.0f} seconds"

    async def _paused_domains(self) -> dict[str, str]:
        try:
            return {domain: until.isoformat() for domain, until in (await self._paused.get()).items()}
        except FAILURES:
            return {}  # health has a check of its own for our database


def _check(problem: str | None, **more: Any) -> dict[str, Any]:
    return {"status": "unhealthy" if problem else "running", "details": {"problem": problem, **more}}
