"""Answers with a validator: who asks again for what did not change gets 304 and no body."""

import hashlib

from aiohttp import web

PRIVATE = "private, no-cache"
"""May be kept by whoever asked, and asked for again before it is used."""


def answer(
    request: web.Request, text: str, content_type: str = "application/json", *, cached: str = PRIVATE
) -> web.Response:
    """The text with its ETag, or 304 where If-None-Match names it. ``cached``: Cache-Control."""
    tag = hashlib.sha256(text.encode()).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": cached}
    if any(candidate.value in {tag, "*"} for candidate in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(text=text, content_type=content_type, headers=headers)
