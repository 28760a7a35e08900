"""/api/docs: the OpenAPI description in RapiDoc, which is served from here."""

from aiohttp import web

from service.web.static import PAGES, style

_HEADERS = {
    # RapiDoc uses inline styles; scripts are files of this service, and eval is not allowed.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self';"
        " img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # With no-referrer a browser sends "Origin: null" even to the same origin.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}

routes = web.RouteTableDef()


@routes.get("/api/docs")
async def docs(_request: web.Request) -> web.Response:
    """The page. It is public; trying a route needs a token."""
    text = (PAGES / "docs.html").read_text("utf-8")
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


@routes.get("/api/docs.css")
async def stylesheet(_request: web.Request) -> web.Response:
    """The stylesheet of the page around RapiDoc."""
    return style("docs.css")


@routes.get("/api/docs.js")
async def script(_request: web.Request) -> web.Response:
    """The script that sets RapiDoc's colours for light or dark mode."""
    return web.Response(
        text=(PAGES / "docs.js").read_text("utf-8"),
        content_type="text/javascript",
        headers={"Cache-Control": "public, max-age=3600"},
    )
