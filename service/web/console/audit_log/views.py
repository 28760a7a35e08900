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
    """Who did what. ``who`` and ``act``: only theirs, as they are written down."""
    asked = {name: request.query.get(name, "").strip()[:200] for name in ("who", "act")}
    rows = await audit.history(
        request.app[DEPS].pool,
        actor=asked["who"] or None,
        act=asked["act"] or None,
        before=params.before(request),
        limit=_PAGE,
    )
    older = params.next_before(rows, _PAGE)
    return page(
        request,
        "acts.html",
        asked=asked,
        rows=[{**row, "what": told(row["what"])} for row in rows],
        more=f"?{urlencode({**asked, 'before': older})}" if older else "",
    )


def told(what: Mapping[str, Any]) -> dict[str, str]:
    """What an act was about, each part as text; what is empty or false is left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in what.items()
        if value is not False and value not in ("", None, {}, [])
    }
