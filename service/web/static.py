"""Templates and stylesheets of all HTML pages."""

from pathlib import Path

from aiohttp import web

PAGES = Path(__file__).parent / "pages"


def style(name: str) -> web.Response:
    """A stylesheet from ``pages``, preceded by the shared colours."""
    text = "".join((PAGES / part).read_text("utf-8") for part in ("tokens.css", name))
    return web.Response(text=text, content_type="text/css", headers={"Cache-Control": "public, max-age=3600"})
