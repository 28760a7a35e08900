"""A small document over HTTPS, with an end to every wait."""

from collections.abc import Awaitable, Callable

import aiohttp

Fetch = Callable[[str], Awaitable[bytes]]
"""The content at an address. Raises FetchFailed."""
_SECONDS = 5.0
_MAX_BYTES = 64 * 1024


class FetchFailed(Exception):
    """The document cannot be had now."""


async def https_get(url: str) -> bytes:
    """The content at an address, 64 kB at most, within five seconds; redirects are not followed."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            content = await response.content.read(_MAX_BYTES + 1)
            while len(content) <= _MAX_BYTES and (more := await response.content.read(_MAX_BYTES)):
                content += more
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise FetchFailed(type(error).__name__) from None
    if response.status != 200 or len(content) > _MAX_BYTES:
        raise FetchFailed(f"it answered {response.status}, with {len(content)} bytes")
    return content
