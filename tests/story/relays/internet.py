"""The servers to which a relay passes mail on, and what becomes of the mail to each person."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from service.demo.sample import Row, SampleDashboard
from tests.process import free_port
from tests.smtp_server import DROP, Misbehave, RecordingServer
from tests.story.relays import name_server

PERSON = "person.example"


@dataclass(frozen=True)
class Fate:
    """What becomes of the mail to a person: what their server says, and what we must make of that.

    ``about`` None: it arrives. ``at_once``: the address is suppressed. ``phase``: where ``reply`` is said.
    """

    about: str | None
    reply: str = ""
    phase: str = "rcpt"
    domain: str = PERSON
    at_once: bool = False


FATES: Mapping[str, Fate] = {
    "ann": Fate(None),
    "bob": Fate(None),
    "cleo": Fate(None),
    # the address
    "gone": Fate("address", "550 5.1.1 <gone@person.example>: nobody of that name here", at_once=True),
    "unknown": Fate("address", "550 unknown user"),
    "nullmx": Fate("address", domain=name_server.NULL_MX),
    # the mailbox
    "full": Fate("mailbox", "552 5.2.2 The mailbox is full"),
    "over-quota": Fate("mailbox", "550 5.1.1 The mailbox is over quota"),
    "nearly-full": Fate("mailbox", "452 4.2.2 Over quota, try again later"),
    "disabled": Fate("mailbox", "550 5.2.1 The account is disabled"),
    # us
    "policy": Fate("us", "550 5.7.1 Local policy"),
    "listed": Fate("us", "554 5.7.1 Client host [192.0.2.5] blocked using dnsbl.example"),
    "address-of-a-host": Fate("us", "550 Blocked, see https://dnsbl.example/?ip=5.1.1.23"),
    "helo": Fate("us", "504 5.5.2 <relay.example>: Helo command rejected: need fully-qualified hostname"),
    "relaying": Fate("us", "554 5.7.1 <relaying@person.example>: Relay access denied"),
    "login": Fate("us", "530 5.7.0 Authentication required"),
    "spam": Fate("us", "550 5.7.1 This message looks like spam", phase="dot"),
    "failed": Fate("us", "554 Transaction failed", phase="dot"),
    "too-large": Fate("us", "552 5.3.4 Message too big for the system", phase="dot"),
    "greeting": Fate("us", "554 No mail from you", phase="connect", domain="greeting.example"),
    "sender": Fate("us", "553 5.1.8 No domain of that name", phase="mail", domain="sender.example"),
    # the way
    "busy": Fate("way", "451 4.3.2 The system is busy"),
    "greylisted": Fate("way", "450 4.2.0 Greylisted, come back later"),
    "cut": Fate("way", DROP),
    "closed": Fate("way", domain="closed.example"),
    "lame": Fate("way", domain=name_server.LAME),
}  # fmt: skip


def address(name: str, fate: Fate) -> str:
    return f"{name}@{fate.domain}"


@asynccontextmanager
async def internet(fates: Mapping[str, Fate]) -> AsyncIterator[Mapping[str, int]]:
    """The port of the server of each domain; of one there is none."""
    async with AsyncExitStack() as stack:
        routes = {"closed.example": free_port()}
        for domain in {fate.domain for fate in fates.values() if fate.reply} | {PERSON}:
            server = RecordingServer(_manners(domain, fates))
            await stack.enter_async_context(server)
            routes[domain] = server.port
        yield routes


def _manners(domain: str, fates: Mapping[str, Fate]) -> Misbehave:
    here = {address(name, fate): fate for name, fate in fates.items() if fate.domain == domain}

    def misbehave(phase: str, recipient: str) -> str | None:
        for whose, fate in here.items():
            if fate.reply and phase == fate.phase and (not recipient or recipient == whose):
                return fate.reply
        return None

    return misbehave


def dashboard(fates: Mapping[str, Fate]) -> SampleDashboard:
    """Each of them has a goal that is due tomorrow."""
    now = datetime.now(UTC)
    due = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    users: list[Row] = [
        {"id": name, "name": name, "email": address(name, fate), "timezone": "UTC", "locale": "en",
         "is_active": True, "last_login_at": now, "created_at": now - timedelta(days=90), "updated_at": now,
         "preferences": {"notifications": {"email": True, "push": True, "reminders": True}}}
        for name, fate in fates.items()
    ]  # fmt: skip
    goals: list[Row] = [
        {"id": f"g-{name}", "user_id": name, "title": "Twelve books", "category": "work", "status": "active",
         "priority": "high", "target_value": 12.0, "current_value": 3.0, "unit": "books", "due_at": due,
         "completed_at": None, "created_at": now, "updated_at": now}
        for name in fates
    ]  # fmt: skip
    sessions: list[Row] = [
        {"id": "s", "user_id": "ann", "goal_id": None, "kind": "focus", "status": "completed",
         "started_at": now - timedelta(hours=2), "ended_at": now - timedelta(hours=1), "paused_at": None,
         "planned_seconds": 1500, "focus_seconds": 1500, "category": None, "tags": [], "updated_at": now}
    ]  # fmt: skip
    return SampleDashboard(users, goals, sessions)
