"""/assets: third-party scripts that the pages use, shipped with the service (see vendor/README.md)."""

from pathlib import Path

from aiohttp import web

from service.web.auth import HttpRefusal

_FOLDER = Path(__file__).parent / "vendor"
_FILES = {file.name for file in _FOLDER.glob("*.js")}
"""Only these names are served, so no other file can be reached."""

routes = web.RouteTableDef()


@routes.get("/assets/{name}")
async def asset(request: web.Request) -> web.StreamResponse:
    """One script, with an ETag; public, so no session is needed."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise HttpRefusal(404, "There is no such asset")
    headers = {"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "public, max-age=3600"}
    return web.FileResponse(_FOLDER / name, headers=headers)
