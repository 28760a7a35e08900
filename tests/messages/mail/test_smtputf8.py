"""Mail to international addresses, over real servers with and without SMTPUTF8 (RFC 6531)."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiosmtpd.smtp import SMTP

from service.clock import SystemClock
from service.demo import maildir_page
from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.smtp_reply import Fate, fate_of
from service.messages.mail.transport import Envelope, SmtpPhase
from service.messages.outbox import DeliveryFilter, Outbox
from tests.given import GOALS, World, goal, user
from tests.messages.mail.cast import composer, letter
from tests.messages.mail.mails import Mails, envelope, send
from tests.messages.mail.test_dkim import AT, accepted, signer

ZOE = "zoë@xn--exmple-cua.org"
BODY = f"To: <{ZOE}>\r\nSubject: x\r\n\r\nbody\r\n".encode()


@dataclass
class Office:
    """What a server got: recipients, the parameters of MAIL, and contents."""

    port: int = 0
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    extensions: tuple[str, ...] = ()
    says: str = ""

    async def handle_EHLO(  # noqa: N802 — the server looks for this name
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], *(f"250-{one}" for one in self.extensions), *responses[1:]]

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self.says and not address.isascii():
            return self.says
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos[0], envelope.mail_options, envelope.original_content))
        return "250 2.0.0 taken"

    @property
    def recipients(self) -> list[str]:
        return [recipient for recipient, _, _ in self.mails]


@asynccontextmanager
async def office(*, smtputf8: bool, pipelining: bool = False, says: str = "") -> AsyncIterator[Office]:
    """An aiosmtpd. ``says``: its answer to international recipients."""
    made = Office(extensions=("PIPELINING",) * pipelining, says=says)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(made, loop=loop, hostname="mail", enable_SMTPUTF8=smtputf8), "127.0.0.1", 0
    )
    async with server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


def pool_for(post: Office, connections: int = 1) -> SmtpPool:
    return SmtpPool(SmtpConfig("127.0.0.1", post.port, "none", connections=connections), SystemClock())


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_server_that_offers_it_gets_the_address_as_it_is(*, pipelining: bool) -> None:
    zoe = Envelope(2, "hello@example.org", ZOE, BODY)
    async with office(smtputf8=True, pipelining=pipelining) as post:
        pool = pool_for(post)
        mails = await send(pool, envelope(1), zoe, envelope(3))
        await pool.close()

    assert [accepted for _, accepted, _, _ in mails.ends] == [True] * 3
    assert post.recipients == ["ann1@example.org", ZOE, "ann3@example.org"]
    asked = [set(options) for _, options, _ in post.mails]
    assert asked == [set(), {"SMTPUTF8", "BODY=8BITMIME"}, set()]
    assert post.mails[1][2] == BODY


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_server_that_does_not_offer_it_is_not_asked_and_others_go_on(*, pipelining: bool) -> None:
    zoes = [Envelope(n, "hello@example.org", ZOE, BODY) for n in (1, 3, 4, 5, 6, 8)]
    ordinary = [envelope(n) for n in (2, 7)]
    mixed = sorted([*zoes, *ordinary], key=lambda one: one.id)
    async with office(smtputf8=False, pipelining=pipelining) as post:
        pool = pool_for(post)
        mails = await send(pool, *mixed)
        alone = await pool.send_one(zoes[0])
        later = await send(pool, envelope(9))
        await pool.close()

    refused = {result.id: result for result in mails.results if not result.accepted}
    assert refused.keys() == {one.id for one in zoes}
    assert {fate_of(result) for result in (*refused.values(), alone)} == {Fate.NEEDS_SMTPUTF8}
    assert post.recipients == ["ann2@example.org", "ann7@example.org", "ann9@example.org"]
    assert later.ends == [(9, True, SmtpPhase.DOT, 250)]
    assert pool.opened == 1
    assert mails.refusals == []


async def test_an_international_sender_or_a_hidden_character_is_never_sent() -> None:
    hostile = [
        "zo\u202eë@example.org",
        "zo\u00a0ë@example.org",
        "zoë@example.org\u2028RCPT",
        "<zoë@example.org",
    ]
    envelopes = [Envelope(n, "hello@example.org", to, BODY) for n, to in enumerate(hostile)]
    envelopes.append(Envelope(9, "hellö@example.org", "ann@example.org", BODY))
    async with office(smtputf8=True) as post:
        pool = pool_for(post)
        mails: Mails = await send(pool, *envelopes, envelope(10))
        await pool.close()

    assert [accepted for _, accepted, _, _ in mails.ends] == [False] * 5 + [True]
    assert post.recipients == ["ann10@example.org"]


def test_a_signature_covers_an_international_recipient() -> None:
    raw = composer().compose(letter(address=ZOE))
    signed = signer("rsa").sign(raw, AT)

    assert accepted(signed, signer("rsa"))
    assert not accepted(signed.replace("zoë@".encode(), "zoé@".encode()), signer("rsa"))


PEOPLE = {
    "ann": "ann@example.org",
    "bob": "bob@Bücher.example",
    "cat": "cät@Bücher.example",
    "dan": "dän@example.org",
    "eve": "eve@-ä.example",
}


async def _planned(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    for name, address in PEOPLE.items():
        await world.live(user(name, email=address), goal(f"g-{name}", name, due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)


async def _sent(world: World, post: Office) -> dict[str, tuple[str, str | None]]:
    pool = pool_for(post, connections=2)
    loop = world.delivery(pool)
    await loop.run_once()
    await pool.close()
    assert loop.problem is None
    return await world.mails()


async def test_people_with_international_addresses_get_their_mail(world: World) -> None:
    await _planned(world)
    async with office(smtputf8=True) as post:
        assert await _sent(world, post) == dict.fromkeys(("ann", "bob", "cat", "dan"), ("sent", None))

    assert set(post.recipients) == {
        "ann@example.org", "bob@xn--bcher-kva.example", "cät@xn--bcher-kva.example", "dän@example.org",
    }  # fmt: skip
    for recipient, _, raw in post.mails:
        message = email.message_from_string(raw.decode(), policy=email.policy.SMTPUTF8)
        assert message["To"].addresses[0].addr_spec == recipient
        assert raw.isascii() == recipient.isascii()
    assert await world.reasons() == {"eve": "no_email"}


@pytest.mark.parametrize(
    ("smtputf8", "says"),
    [(False, ""), (True, "553 5.6.7 SMTPUTF8 is required, but was not offered by the next host")],
)
async def test_without_it_the_reason_has_a_name_and_nobody_else_waits(
    world: World, *, smtputf8: bool, says: str
) -> None:
    await _planned(world)
    async with office(smtputf8=smtputf8, says=says) as post:
        needs = ("failed", "address_needs_smtputf8")
        assert await _sent(world, post) == {
            "ann": ("sent", None), "bob": ("sent", None), "cat": needs, "dan": needs,
        }  # fmt: skip
    assert await world.pool.fetchval("SELECT count(*) FROM service.hard_bounce") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM service.suppression") == 0

    outbox = Outbox(world.pool, "x", timedelta(minutes=1))
    retried = await outbox.retry_failed(DeliveryFilter(reason="address_needs_smtputf8"), 10)
    assert retried["retried"] == 2
    async with office(smtputf8=True) as post:
        assert set((await _sent(world, post)).values()) == {("sent", None)}


async def test_a_domain_is_suppressed_and_limited_in_one_spelling(world: World) -> None:
    await _planned(world)
    rows = await world.pool.fetch(
        "SELECT s.domain, count(*) AS n FROM service.delivery_state AS s GROUP BY s.domain ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("example.org", 2), ("xn--bcher-kva.example", 2)]
    await world.pool.execute(
        "INSERT INTO service.suppression (address, reason) VALUES ('bob@xn--bcher-kva.example', 'complaint')"
    )
    async with office(smtputf8=True) as post:
        assert (await _sent(world, post))["bob"] == ("skipped", "suppressed_address")
    await world.at("2026-03-11T08:00:00Z")
    await world.live(goal("g2", "bob", due="2026-03-12"))
    await (await world.runner()).run_manual(GOALS)
    assert (await world.reasons())["bob"] == "suppressed_address"


async def test_the_local_inbox_takes_and_shows_it(tmp_path: Path) -> None:
    transport = MaildirTransport(tmp_path)
    raw = composer().compose(letter(address=ZOE))
    mails = await send(transport, Envelope(1, "hello@example.org", ZOE, raw))
    assert [accepted for _, accepted, _, _ in mails.ends] == [True]

    app = web.Application()
    app.add_routes(maildir_page.routes(tmp_path))
    async with TestClient(TestServer(app)) as client:
        pages = [
            await (await client.get(path)).text()
            for path in ("/inbox", "/inbox/000000000001.mail?view=source")
        ]
    assert all(ZOE in page for page in pages)
