"""Responses with an ETag: an unchanged one is answered with 304 and no body."""

import hashlib

from aiohttp import web

PRIVATE = "private, no-cache"
"""Only the client may cache it, and must revalidate before each use."""


def answer(
    request: web.Request, text: str, content_type: str = "application/json", *, cached: str = PRIVATE
) -> web.Response:
    """The text with its ETag, or 304 if If-None-Match has it. ``cached``: the Cache-Control header."""
    tag = hashlib.sha256(text.encode()).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": cached}
    if any(candidate.value in {tag, "*"} for candidate in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(text=text, content_type=content_type, headers=headers)
