"""Certificates that sign webhooks: fetched once, kept for a day."""

import asyncio
from collections import deque
from collections.abc import Callable

from service.messages.mail.providers.https_get import Fetch, FetchFailed
from service.messages.mail.providers.provider_event import WebhookRefusal

_KEPT_FOR = 86_400.0
_MOST = 8
"""How many are kept: each region has one, which changes once a year."""
_PER_MINUTE = 10
"""Anybody can name certificates that do not exist; no more of them are asked for."""


class SigningCertificates:
    """``fetch``: gets one; ``seconds``: a clock that never goes back."""

    def __init__(self, fetch: Fetch, seconds: Callable[[], float]) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._fetches: deque[float] = deque(maxlen=_PER_MINUTE)
        self._one_at_a_time = asyncio.Lock()

    async def get(self, url: str) -> bytes:
        """The certificate (PEM) at an address that was found good. Raises WebhookRefusal (503)."""
        if certificate := self._known(url):
            return certificate
        async with self._one_at_a_time:
            if certificate := self._known(url):
                return certificate
            self._count_fetch()
            try:
                certificate = await self._fetch(url)
            except FetchFailed as error:
                raise WebhookRefusal(503, f"The certificate cannot be fetched now: {error}") from None
            if len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[url] = (self._seconds() + _KEPT_FOR, certificate)
            return certificate

    def _known(self, url: str) -> bytes | None:
        until, certificate = self._kept.get(url, (0.0, None))
        return certificate if self._seconds() < until else None

    def _count_fetch(self) -> None:
        now = self._seconds()
        if len(self._fetches) == _PER_MINUTE and now - self._fetches[0] < 60:
            raise WebhookRefusal(503, "Too many certificates were asked for within a minute")
        self._fetches.append(now)
