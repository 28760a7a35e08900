"""Every act of an operator in the console leaves a trace."""

from typing import Any

from aiohttp import web

from service.admin.console import SESSION
from service.admin.deps import DEPS
from service.store import queries

_SQL = queries.load(__file__)


def who(request: web.Request, name: str = "") -> str:
    """Who acts, as it is written down: the role, and the name that somebody gave."""
    role = str(request[SESSION].role)
    return f"{name} ({role})" if name else role


async def remark(request: web.Request, act: str, **what: Any) -> None:
    """Write down that somebody did something."""
    await request.app[DEPS].pool.execute(_SQL["remark"], who(request), act, what)
