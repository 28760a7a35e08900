"""How fast a process sends mail."""

from dataclasses import dataclass, field

from service.messages.limits import DomainLimits


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How fast a process sends.

    ``connections``: how many mails are sent at the same time. ``batch``: the most messages claimed at once.
    ``rate``: the most messages per second, 0: no limit. ``limits``: what is sent to each recipient's
    domain, at once and per second. ``idle``: seconds until an empty outbox is asked again. ``grace``: seconds
    for which a stop waits for answers of the mail server.
    """

    connections: int = 10
    batch: int = 100
    rate: float = 0.0
    limits: DomainLimits = field(default_factory=DomainLimits)
    idle: float = 2.0
    grace: float = 3.0
