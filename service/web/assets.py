"""/assets: the scripts of others that the pages use, shipped with the service (see vendor/README.md)."""

from pathlib import Path

from aiohttp import web

from service.web.auth import Refused

_FOLDER = Path(__file__).parent / "vendor"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_FILES = {file.name: _TYPES[file.suffix] for file in sorted(_FOLDER.iterdir()) if file.suffix in _TYPES}
"""Only these names are served: nothing else of this machine, however it is asked for."""

routes = web.RouteTableDef()


@routes.get("/assets/{name}")
async def asset(request: web.Request) -> web.StreamResponse:
    """One file, the same for everybody; with an ETag, and without a look at the session."""
    name = request.match_info["name"]
    kind = _FILES.get(name)
    if kind is None:
        raise Refused(404, "There is no such asset")
    headers = {"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": "public, max-age=3600"}
    return web.FileResponse(_FOLDER / name, headers=headers)
