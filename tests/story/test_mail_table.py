"""What a mail server can say, and what comes of it: the cases of the field, on a running service."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from service.messages.mail.verp import envelope_sender
from tests.messages.mail.report_corpus import PERSON, REASONS, exim_dsn, postfix
from tests.process import process_of, until
from tests.smtp_server import RecordingServer
from tests.story.watching import answer, run, until_ready, until_true

BASE, SECRET = "bounce@example.org", "a secret of the operator, for signing"
EXIM = (
    "Return-Path: <>\nFrom: Mail Delivery System <Mailer-Daemon@relay.example>\nTo: {base}\n"
    "Subject: Mail delivery failed: returning message to sender\nAuto-Submitted: auto-replied\n"
    "X-Failed-Recipients: {person}\n\nThis message was created automatically by mail delivery software.\n\n"
    "A message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent"
    " error. The following address(es) failed:\n\n  {person}\n    {why}\n"
)
ABOUT_US = (
    "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname",
    "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.example",
    "554 5.7.1 <x@example.org>: Relay access denied",
    "530 5.7.0 Authentication required",
    "550 5.7.1 Message rejected due to local policy",
    "550 Blocked, see https://check.example/?ip=5.1.1.23",
)
BY_NAME = {
    "unknown": "550 5.1.1 no such user",
    "bare": "550 no",
    "full": "552 5.2.2 Mailbox full",
    "busy": "452 4.2.2 Mailbox full",
    "later": "451 4.3.0 try again later",
}


@dataclass
class Stage:
    """A running service, its mail server and its dashboard; people come to it group by group."""

    url: str
    server: RecordingServer
    ours: asyncpg.Connection
    theirs: asyncpg.Connection
    mails: dict[str, int] = field(default_factory=dict)

    async def write_to(self, *addresses: str) -> None:
        """New people with these addresses are due a mail."""
        now = datetime.now(UTC)
        for address in addresses:
            id_ = uuid.uuid4().hex[:24]
            await self.theirs.execute(
                "INSERT INTO users (id, name, email, timezone, is_active, created_at, updated_at,"
                " last_login_at) VALUES ($1, 'Pat', $2, 'UTC', true, $3, $4, $4)",
                id_, address, now - timedelta(days=90), now,
            )  # fmt: skip
            await self.theirs.execute(
                "INSERT INTO goals (id, user_id, title, status, due_at, created_at, updated_at)"
                " VALUES ($1, $1, 'Read', 'active', $2, $3, $3)",
                id_, datetime.combine(now.date() + timedelta(days=1), time(), UTC), now,
            )  # fmt: skip
        status, told = await run(self.url)
        assert status == 200, told
        rows = await self.ours.fetch(
            "SELECT id, address FROM service.delivery WHERE address = ANY ($1)", list(addresses)
        )
        self.mails |= {row["address"]: row["id"] for row in rows}
        assert self.mails.keys() >= set(addresses), told

    async def state(self, address: str) -> tuple[str, str | None]:
        """How the mail to an address stands, and why."""
        row = await self.ours.fetchrow(
            "SELECT state, reason FROM service.delivery_state WHERE id = $1", self.mails[address]
        )
        assert row
        return row["state"], row["reason"]

    async def until_state(self, address: str, *wanted: str | None) -> None:
        async def as_wanted() -> bool:
            return await self.state(address) == wanted

        await until_true(as_wanted)

    async def until_sent(self, addresses: Sequence[str]) -> None:
        """All of these have left."""
        await until(lambda: {one.recipient for one in self.server.accepted} >= set(addresses))
        for address in addresses:
            await self.until_state(address, "sent", None)

    async def report(self, address: str, text: str) -> dict[str, Any]:
        """What came to the bounce address about the mail to this one; what it was understood as."""
        sender = envelope_sender(BASE, self.mails[address], SECRET.encode())
        raw = text.replace(PERSON, address).encode()
        headers = {"Content-Type": "message/rfc822"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{self.url}/api/admin/bounces?recipient={sender.replace('+', '%2B')}",
                data=raw,
                headers=headers,
            ) as got,
        ):
            told: dict[str, Any] = await got.json()
            assert got.status == 200, told
        return told

    async def gate(self, cause: str) -> dict[str, Any]:
        """The relay's gate, once it is shut; health is red by it."""
        found: list[dict[str, Any]] = []

        async def is_shut() -> bool:
            _, told = await answer(self.url, "/api/admin/gates")
            found[:] = [one for one in told["data"] if (one["scope"], one["cause"]) == ("relay", cause)]
            return bool(found)

        await until_true(is_shut)
        return found[0]

    async def until_open(self) -> None:
        """A probe opens the gate; its pause is over at once."""
        await self.ours.execute("UPDATE service.gate SET probe_at = service.now() WHERE opened_at IS NULL")

        async def none_is_shut() -> bool:
            return not (await answer(self.url, "/api/admin/gates"))[1]["data"]

        await until_true(none_is_shut)

    async def against(self) -> tuple[set[str], set[str], int]:
        """Who is suppressed, who has a hard bounce, and how many mailboxes rest."""
        suppressed = await self.ours.fetch("SELECT address FROM service.suppression")
        bounces = await self.ours.fetch("SELECT address FROM service.hard_bounce")
        rests: int = await self.ours.fetchval("SELECT count(*) FROM service.mailbox_rest")
        return {row[0] for row in suppressed}, {row[0] for row in bounces}, rests


def _by_name(phase: str, recipient: str) -> str | None:
    return BY_NAME.get(recipient.partition("@")[0]) if phase == "rcpt" else None


def _reply(text: Callable[[str], str]) -> Callable[[str, str], str | None]:
    return lambda phase, recipient: text(recipient) if phase == "rcpt" else None


def _reason(name: str) -> Any:
    return next(reason for reason in REASONS if reason.name == name)


@pytest.mark.long(only=True)
async def test_what_a_server_says_has_the_consequence_of_the_table(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    async with RecordingServer(_by_name) as server:
        environ = {
            "DATABASE_URL": ours, "DASHBOARD_URL": theirs, "FRONTEND_URL": "http://localhost:3000",
            "PUBLIC_URL": "http://localhost:8080", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port),
            "MAIL_FROM": "Dashboard <hello@example.org>", "CLAIM_JITTER_SECONDS": "0",
            "SMTP_CONNECTIONS": "4", "BOUNCE_ADDRESS": BASE, "BOUNCE_SECRET": SECRET,
        }  # fmt: skip
        async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
            await until_ready(url)
            us, them = await asyncpg.connect(ours), await asyncpg.connect(theirs)
            try:
                stage = Stage(url, server, us, them)
                await _single_replies(stage)
                await _reports(stage)
                await _refusals_of_us(stage)
                await _a_relays_own_limit(stage)
                await _the_same_of_everybody(stage)
                await _the_same_in_reports(stage)
            finally:
                await asyncio.gather(us.close(), them.close())
        assert "EHLO example.org" in server.commands


async def _single_replies(stage: Stage) -> None:
    good = [f"good{n}@example.org" for n in range(12)]
    strange = [f"{name}@{name}.example" for name in BY_NAME]
    await stage.write_to(*good, *strange)
    await stage.until_sent(good)
    await stage.until_state("unknown@unknown.example", "failed", "hard_bounce")
    await stage.until_state("bare@bare.example", "failed", "hard_bounce")
    await stage.until_state("full@full.example", "planned", "about_mailbox")
    await stage.until_state("busy@busy.example", "planned", "about_mailbox")
    await stage.until_state("later@later.example", "planned", "throttled")

    async def counted() -> bool:
        return await stage.against() == (
            {"unknown@unknown.example"}, {"unknown@unknown.example", "bare@bare.example"}, 0,
        )  # fmt: skip

    await until_true(counted)
    assert await stage.ours.fetchval("SELECT count(*) FROM service.mailbox_bounce") == 2

    stage.server.behave()
    for name in ("later", "full"):
        id_ = stage.mails[f"{name}@{name}.example"]
        _, tried = await answer(stage.url, "/api/admin/deliveries/try-now", {"id": id_})
        assert tried["tried"] == 1, tried
        await stage.until_sent([f"{name}@{name}.example"])
        _, told = await answer(stage.url, f"/api/admin/deliveries/{id_}/attempts")
        assert [one["state"] for one in told["data"]] == ["planned", "sent"], told


async def _reports(stage: Stage) -> None:
    """Each is about a mail that was accepted; nobody but who does not exist is suppressed by one."""
    cases = [
        ("good0", postfix(_reason("unknown")), "hard_bounce"),
        ("good1", exim_dsn(_reason("full")), "about_mailbox"),
        ("good2", postfix(_reason("listed")), "about_us"),
        ("good3", exim_dsn(_reason("code against words")), "about_us"),
        ("good4", EXIM.format(base=BASE, person=PERSON, why="Unrouteable address"), "about_way"),
        ("good5", EXIM.format(base=BASE, person=PERSON, why="retry timeout exceeded"), "about_way"),
    ]
    for name, text, reason in cases:
        address = f"{name}@example.org"
        await stage.report(address, text)
        assert await stage.state(address) == ("bounced", reason), name
    suppressed, _, rests = await stage.against()
    assert (suppressed, rests) == ({"unknown@unknown.example", "good0@example.org"}, 0)
    _, found = await answer(stage.url, "/api/admin/deliveries?state=bounced&reason=about_mailbox")
    assert [one["id"] for one in found["data"]] == [stage.mails["good1@example.org"]]

    _, shown = await answer(stage.url, f"/api/admin/deliveries/{stage.mails['good6@example.org']}/message")
    mail = shown["data"]["mail"]
    assert "nsubscribe" in mail["text"]
    wish = next(
        part for part in mail["source"].replace("\r\n ", " ").split("<") if part.startswith("mailto:")
    )
    to = wish.removeprefix("mailto:").partition(">")[0].partition("?")[0]
    wish_mail = f"From: good6@example.org\nTo: {to}\nDelivered-To: {to}\nSubject: unsubscribe\n\n"
    headers = {"Content-Type": "message/rfc822"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stage.url}/api/admin/bounces", data=wish_mail.encode(), headers=headers) as got,
    ):
        assert (await got.json())["kind"] == "unsubscribe"


async def _refusals_of_us(stage: Stage) -> None:
    """Whatever is said about us stops the relay; nobody is charged; all leave once it takes mail again."""
    before = await stage.against()
    stage.server.behave(_reply(lambda to: ABOUT_US[int(to[2 : to.index("@")]) % len(ABOUT_US)]))
    people = [f"us{n}@example.org" for n in range(12)]
    await stage.write_to(*people)
    await stage.gate("breaker")
    _, health = await answer(stage.url, "/api/admin/jobs/health")
    assert health["success"] is False or health["status"] == "unhealthy", health
    assert {(await stage.state(one))[0] for one in people} <= {"planned", "claimed"}
    stage.server.behave()
    await stage.until_open()
    await _tried(stage, people)
    assert await stage.against() == before


async def _tried(stage: Stage, people: Sequence[str]) -> None:
    """What was refused for our sake waits a minute; an operator need not."""
    for address in people:
        await answer(stage.url, "/api/admin/deliveries/try-now", {"id": stage.mails[address]})
    await stage.until_sent(people)


async def _a_relays_own_limit(stage: Stage) -> None:
    """Every domain is throttled in the same words: the relay waits, and no domain does."""
    stage.server.behave(_reply(lambda to: f"451 4.7.0 too many mails for {to.partition('@')[2]}"))
    people = [f"limit@d{n}.example" for n in range(8)]
    await stage.write_to(*people)
    gate = await stage.gate("breaker")
    assert "more slowly" in gate["details"]["reason"], gate
    stage.server.behave()
    await stage.until_open()
    await stage.until_sent(people)
    assert (
        await stage.ours.fetchval("SELECT count(*) FROM service.domain_pause WHERE until > service.now()")
        == 0
    )


async def _the_same_of_everybody(stage: Stage) -> None:
    before = await stage.against()
    stage.server.behave(_reply(lambda to: f"550 5.1.1 <{to}>: all are strangers"))
    people = [f"all{n}@example.org" for n in range(40)]
    await stage.write_to(*people)
    gate = await stage.gate("base_rate")
    assert gate["details"]["words"] == "550 5.1.1 all are strangers", gate

    async def taken_back() -> bool:
        return await stage.against() == before

    await until_true(taken_back)
    stage.server.behave()
    await stage.until_open()
    await _tried(stage, people)


async def _the_same_in_reports(stage: Stage) -> None:
    before = await stage.against()
    text = postfix(replace(_reason("unknown"), reply=f"550 5.1.1 <{PERSON}>: strangers are all"))
    for n in range(40):
        await stage.report(f"all{n}@example.org", text)
    gate = await stage.gate("base_rate")
    assert "were reported as undeliverable in the same words" in gate["details"]["reason"], gate
    assert await stage.against() == before
    assert {await stage.state(f"all{n}@example.org") for n in range(40)} == {("bounced", "about_us")}
