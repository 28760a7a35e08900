"""The HTTP face: one application from its parts."""

import asyncio

from aiohttp import web

from service.admin import (
    analytics,
    assets,
    bounces,
    console,
    console_acts,
    console_analytics,
    console_jobs,
    console_messages,
    console_people,
    console_plans,
    console_runs,
    console_system,
    deliveries,
    docs,
    events,
    explain,
    forecast,
    jobs,
    mails,
    messages,
    metrics,
    once,
    overview,
    people,
    previews,
    probes,
    recipients,
    records,
)
from service.admin.access import auth, errors, headers
from service.admin.body import MAX_BODY
from service.admin.deps import DEPS, AdminDeps
from service.admin.metrics import timing
from service.admin.patience import punctual

_MODULES = (
    analytics,
    assets,
    bounces,
    console,
    console_acts,
    console_analytics,
    console_jobs,
    console_messages,
    console_people,
    console_plans,
    console_runs,
    console_system,
    deliveries,
    docs,
    events,
    explain,
    forecast,
    jobs,
    mails,
    messages,
    metrics,
    overview,
    people,
    previews,
    probes,
    recipients,
    records,
)


_IN_STEPS = 2


def build_app(deps: AdminDeps) -> web.Application:
    """An application with every route of openapi.yaml, the pages of the recipients and the console."""
    app = web.Application(
        middlewares=[timing, headers, errors, punctual, auth, console.guard], client_max_size=MAX_BODY
    )
    app[DEPS] = deps
    app[probes.READY] = probes.readiness_of(deps)
    app[metrics.LEDGER] = metrics.ledger_of(deps)
    app[once.GATE] = asyncio.Semaphore(_IN_STEPS)
    app[metrics.ANSWERS] = metrics.Answers(deps.registry)
    app[events.FEED] = feed = events.Feed(deps.manager.progress)
    app.on_shutdown.append(feed.close)
    for module in _MODULES:
        app.add_routes(module.routes)
    return app
