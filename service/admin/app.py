"""The HTTP face: one application from its parts."""

from aiohttp import web

from service.admin import bounces, explain, jobs, messages, people, previews, probes, recipients
from service.admin.access import auth, errors, headers
from service.admin.body import MAX_BODY
from service.admin.deps import DEPS, AdminDeps


def build_app(deps: AdminDeps) -> web.Application:
    """An application with every route of openapi.yaml and the pages of the recipients."""
    app = web.Application(middlewares=[headers, errors, auth], client_max_size=MAX_BODY)
    app[DEPS] = deps
    for module in (bounces, explain, jobs, messages, people, previews, probes, recipients):
        app.add_routes(module.routes)
    return app
