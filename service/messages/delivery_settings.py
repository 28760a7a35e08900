"""How fast a process sends mail."""

from dataclasses import dataclass, field

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
