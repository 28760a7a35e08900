"""Try now: what waits for another try, or for the end of its domain's pause, is due at once."""

from dataclasses import dataclass, field

from service.engine import queries
from service.engine.database import Connection
from service.messages.outbox import DeliveryFilter

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Which of the mails that wait; None: any. ``domain``: the recipient's, in any case."""

    selection: DeliveryFilter = field(default_factory=DeliveryFilter)
    id: int | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class TryNowResult:
    """``matched``: how many mails wait; ``tried``: how many of them are due now; ``domains``: whose pauses
    were ended.
    """

    matched: int
    tried: int
    domains: tuple[str, ...]


async def try_now(
    mails: WaitingFilter, limit: int, connection: Connection, *, dry_run: bool = False
) -> TryNowResult:
    """Let up to ``limit`` of these mails be tried at once, oldest first; ``dry_run`` only counts.

    What waits for its own time, or for the end of quiet hours, is left alone. A domain that asked us to wait
    gets one mail, and the others once it has taken that.
    """
    domain = None if mails.domain is None else mails.domain.lower()
    waiting = await connection.fetch(_SQL["waiting"], mails.id, domain, limit, *mails.selection.values)
    matched = waiting[0]["matched"] if waiting else 0
    if dry_run:
        return TryNowResult(matched, 0, ())
    domains = {row["domain"] for row in waiting} | ({domain} if domain else set())
    ended = await connection.fetch(_SQL["end_pauses_early"], sorted(domains))
    due = await connection.fetch(_SQL["make_due"], [row["id"] for row in waiting])
    return TryNowResult(matched, len(due), tuple(sorted(row["domain"] for row in ended)))
