"""Builds the aiohttp application: middlewares, routes and what the handlers share."""

from aiohttp import web

from service.web import assets, docs, health, metrics, probes
from service.web.api import (
    analytics,
    bounces,
    deliveries,
    explanations,
    forecasts,
    gates,
    in_app,
    jobs,
    observability,
    people,
    previews,
    run_events,
    suppressions,
    sync,
    webhooks,
)
from service.web.auth import WRONG_TOKENS, auth, errors, headers
from service.web.body_timeout import body_timeout
from service.web.console import pages
from service.web.console import routes as console
from service.web.deadline import deadline, note_start
from service.web.deps import DEPS, AdminDeps
from service.web.metrics import timing
from service.web.params import MAX_BODY
from service.web.recipients import views as recipients
from service.web.wrong_tokens import WrongTokens

_MODULES = (
    analytics,
    assets,
    bounces,
    *console.MODULES,
    deliveries,
    docs,
    run_events,
    explanations,
    forecasts,
    gates,
    jobs,
    in_app,
    metrics,
    people,
    previews,
    probes,
    recipients,
    observability,
    suppressions,
    sync,
    webhooks,
)


def build_app(deps: AdminDeps) -> web.Application:
    """The application with all routes: openapi.yaml's, the recipients' pages and the console."""
    app = web.Application(
        middlewares=[
            timing,
            headers,
            errors,
            body_timeout,
            auth,
            pages.guard,
            recipients.guard,
            deadline,
            health.look_again,
        ],
        client_max_size=MAX_BODY,
    )
    app[DEPS] = deps
    app[WRONG_TOKENS] = WrongTokens()
    app.on_response_prepare.append(note_start)
    app[probes.READY] = probes.readiness_of(deps)
    app[health.HEALTH] = health.shared_check(deps)
    app[metrics.LEDGER] = metrics.ledger_of(deps)
    app[metrics.ANSWERS] = metrics.AnswerTimes(deps.registry)
    app[run_events.FEED] = feed = run_events.RunFeed(deps.manager.progress)
    app.on_shutdown.append(feed.close)
    for module in _MODULES:
        app.add_routes(module.routes)
    return app
