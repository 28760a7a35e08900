"""What this process reports about itself: health checks, and metrics for its heartbeat."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import asyncpg
import structlog

from service.analytics.runtime_metrics import RuntimeMetrics
from service.dashboard.sync import Sync
from service.engine.database_errors import FAILURES
from service.engine.ledger import Ledger
from service.engine.supervisor import Supervisor
from service.errors import SourceUnavailable
from service.messages.delivery import DeliveryLoop
from service.messages.in_app.inbox import DashboardInbox
from service.messages.mail.transport import Transport
from service.messages.outbox import Outbox

log = structlog.get_logger()


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


def gauges(pool: asyncpg.Pool, sync: Sync) -> dict[str, float | None]:
    size, idle = pool.get_size(), pool.get_idle_size()
    return {"poolSize": size, "poolBusy": size - idle, "changeStreamLag": sync.change_stream_lag()}


async def checks(
    supervisor: Supervisor,
    delivery: DeliveryLoop,
    outbox: Outbox,
    transport: Transport,
    sync: Sync,
    notes: DashboardInbox | None,
) -> dict[str, dict[str, Any]]:
    """Each dependency's own view, for health."""
    dashboard = sync.health()
    mail = delivery.problem or await transport.ping()
    paused = {domain: until.isoformat() for domain, until in (await _paused(outbox)).items()}
    checks = {"inbox": _check(notes.problem)} if notes else {}
    return checks | {
        "dashboard": {"status": "running" if dashboard["healthy"] else "unhealthy", "details": dashboard},
        "mail": _check(mail, pausedDomains=paused),
        "loops": {
            "status": "running" if supervisor.healthy else "unhealthy",
            "details": supervisor.report(),
        },
    }


def _check(problem: str | None, **more: Any) -> dict[str, Any]:
    return {"status": "unhealthy" if problem else "running", "details": {"problem": problem, **more}}


async def _paused(outbox: Outbox) -> dict[str, datetime]:
    try:
        return await outbox.paused()
    except FAILURES:
        return {}  # health has a check of its own for our database
