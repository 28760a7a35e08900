"""/console/acts: the audit log, newest first."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from service.web import audit, params
from service.web.console.pages import page
from service.web.deps import DEPS

_PAGE = 50

routes = web.RouteTableDef()


@routes.get("/console/acts")
async def acts(request: web.Request) -> web.Response:
    """The audit log. ``who`` and ``act``: only entries with exactly these values."""
    filters = {name: request.query.get(name, "").strip()[:200] for name in ("who", "act")}
    rows = await audit.history(
        request.app[DEPS].pool,
        actor=filters["who"] or None,
        act=filters["act"] or None,
        before=params.before(request),
        limit=_PAGE,
    )
    older = params.next_before(rows, _PAGE)
    return page(
        request,
        "acts.html",
        filters=filters,
        rows=[{**row, "what": detail_texts(row["what"])} for row in rows],
        more=f"?{urlencode({**filters, 'before': older})}" if older else "",
    )


def detail_texts(details: Mapping[str, Any]) -> dict[str, str]:
    """The details of an entry as text; empty and false ones are left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in details.items()
        if value is not False and value not in ("", None, {}, [])
    }
