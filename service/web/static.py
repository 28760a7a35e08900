"""The files that all pages for people share: templates and stylesheets, with the same colours."""

from pathlib import Path

from aiohttp import web

PAGES = Path(__file__).parent / "pages"


def style(name: str) -> web.Response:
    """A stylesheet of ``pages``, after the colours that all of them use."""
    text = "".join((PAGES / part).read_text("utf-8") for part in ("tokens.css", name))
    return web.Response(text=text, content_type="text/css", headers={"Cache-Control": "public, max-age=3600"})
