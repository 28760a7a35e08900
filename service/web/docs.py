"""/api/docs: the contract to read and to try, drawn by RapiDoc; nothing comes from elsewhere."""

from aiohttp import web

from service.web.static import PAGES, style

_HEADERS = {
    # RapiDoc writes styles into its elements; scripts are files of this service, and nothing is evaluated.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self';"
        " img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # With no-referrer a browser says "Origin: null" even to ourselves.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}

routes = web.RouteTableDef()


@routes.get("/api/docs")
async def docs(_request: web.Request) -> web.Response:
    """The page; the same for everybody. Who tries a route brings a token."""
    text = (PAGES / "docs.html").read_text("utf-8")
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


@routes.get("/api/docs.css")
async def stylesheet(_request: web.Request) -> web.Response:
    """The look of what surrounds the contract."""
    return style("docs.css")


@routes.get("/api/docs.js")
async def script(_request: web.Request) -> web.Response:
    """Gives the page the colours that the browser prefers."""
    return web.Response(
        text=(PAGES / "docs.js").read_text("utf-8"),
        content_type="text/javascript",
        headers={"Cache-Control": "public, max-age=3600"},
    )
