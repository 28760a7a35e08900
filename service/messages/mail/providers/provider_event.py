"""The one form in which all providers' reports are processed, and what a provider has to bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class EventKind(StrEnum):
    """What happened to a mail after the provider had taken it."""

    FAILED = "failed"
    """It will not be delivered."""
    DELAYED = "delayed"
    """The provider keeps trying."""
    DELIVERED = "delivered"
    COMPLAINT = "complaint"
    """The recipient reported it as spam."""
    SUPPRESSED = "suppressed"
    """The provider sends nothing to that address any more: about no mail of ours."""
    REACTIVATED = "reactivated"
    """It sends to that address again."""


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """What a provider reports about one recipient of one mail.

    ``permanent``: the provider says that it is of no use to try again; only then a failure may count against
    the address; of SUPPRESSED: because the recipient complained. ``status``: RFC 3463, e.g. 5.1.1;
    ``diagnostic``: the reply of the recipient's server, or the provider's own words. ``sender``: the envelope
    sender with which we handed the mail over; ``message_ids``: Message-IDs that it may have, without
    brackets. By these its delivery is found, else as the last one to ``recipient`` at the time ``at`` (aware;
    None: unknown).
    """

    provider: str
    kind: EventKind
    recipient: str
    at: datetime | None
    permanent: bool = False
    status: str | None = None
    diagnostic: str = ""
    sender: str = ""
    message_ids: tuple[str, ...] = ()


class WebhookRefusal(Exception):
    """A request that is not the provider's, or cannot be read. ``status``: of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Provider(Protocol):
    """A provider whose webhook is configured."""

    async def events(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        """What a request reports, after it was verified that the provider sent it. Raises WebhookRefusal.

        ``headers``: names in any case.
        """
