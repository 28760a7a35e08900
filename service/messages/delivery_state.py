"""The states of a delivery, as they are stored."""

from enum import StrEnum


class DeliveryState(StrEnum):
    """In the order of its life: ``planned → claimed → sending → sent``, or another end."""

    PLANNED = "planned"
    """It waits for its time, or for another try."""
    CLAIMED = "claimed"
    """A process has it in hand; nothing of it is on the wire."""
    SENDING = "sending"
    """The final dot may have been written."""
    SENT = "sent"
    """The server took it; a notification is shown."""
    FAILED = "failed"
    """It was refused for good, could not be composed, or was tried as long as it was useful."""
    UNCONFIRMED = "unconfirmed"
    """The connection broke after the final dot: nobody knows whether it arrived."""
    SKIPPED = "skipped"
    """It does not hold any more, or may not reach the person; the reason says why."""
    MISSED = "missed"
    """Its slot was found too late."""
    EXPIRED = "expired"
    """It waited until it was of no use."""
    CANCELLED = "cancelled"
    """An operator took it back."""
    BOUNCED = "bounced"
    """It was sent, and a server reported that it could not be delivered."""
    COMPLAINED = "complained"
    """It was sent, and its recipient reported it as spam."""
