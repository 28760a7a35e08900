"""How fast a process sends mail."""

from dataclasses import dataclass, field
from datetime import timedelta

from service.messages.limits import DomainLimits


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How fast a process sends.

    ``connections``: how many batches are sent at the same time. ``batch``: the most messages claimed at once.
    ``rate``: the most messages per second, 0: no limit. ``limits``: what is sent to each recipient's
    domain, at once and per second. ``idle``: seconds until an empty outbox is asked again.
    """

    connections: int = 10
    batch: int = 25
    rate: float = 0.0
    limits: DomainLimits = field(default_factory=DomainLimits)
    idle: float = 2.0

    def connection_count(self, lease: timedelta) -> int:
        """Few enough connections that each can send a batch well within its lease, even at a limited rate."""
        if not self.rate:
            return self.connections
        return max(1, min(self.connections, int(self.rate * lease.total_seconds() / 4)))

    def batch_size(self, lease: timedelta) -> int:
        """Few enough messages that a batch ends well within its lease, even at a limited rate."""
        if not self.rate:
            return self.batch
        share = self.rate * lease.total_seconds() / 4 / self.connection_count(lease)
        return max(1, min(self.batch, int(share)))
