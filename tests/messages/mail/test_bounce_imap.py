"""Bounces are read from a mailbox on an IMAP server, once, and every wait on it ends."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.messages.mail import bounce_imap
from service.messages.mail.bounce_imap import BounceImap, ImapProblem
from service.messages.mail.bounce_intake import MAX_REPORT_BYTES
from service.messages.mail.imap_mailbox import ImapMailbox
from tests import certificates
from tests.given import World
from tests.imap_server import DROP, HANG, ImapServer
from tests.messages.mail.test_bounce_intake import _sent, _silenced, intake, report

ODD = b"Subject: (no) report {17}\r\n\r\n* 1 FETCH (\r\nA1 OK done\r\n)\r\n"
"""What IMAP itself could say."""


class Taken:
    """An intake that only remembers."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def process(self, raw: bytes) -> None:
        self.mails.append(raw)


def _box(server: ImapServer, taken: Any, **changes: Any) -> BounceImap:
    mailbox = ImapMailbox(
        "127.0.0.1", server.port, server.tls is not None, server.user, server.password, "INBOX"
    )
    return BounceImap(changes.pop("mailbox", mailbox), taken, **{"seconds": 20.0, "pause": 0.01, **changes})


async def test_reports_are_taken_in_once_and_stay_marked_as_seen(world: World) -> None:
    ids = await _sent(world, "ann", "bob")
    async with ImapServer() as server:
        server.folders["INBOX"] = {
            11: report("postfix_user_unknown", ids, "ann"),
            9: ODD,
            12: report("arf_outlook", ids, "bob"),
        }
        box = _box(server, intake(world))

        assert await box.read() == 3
        assert await box.read() == 0

        assert (server.seen, len(server.folders["INBOX"])) == ({9, 11, 12}, 3)
    assert await _silenced(world) == {"ann": "hard_bounce", "bob": "complaint"}


@pytest.mark.parametrize("capabilities", ["IMAP4rev1 MOVE", "IMAP4rev1 UIDPLUS", "IMAP4rev1"])
async def test_mails_are_moved_where_a_folder_is_named(capabilities: str) -> None:
    taken = Taken()
    async with ImapServer(capabilities=capabilities) as server:
        server.folders["INBOX"] = {3: ODD, 4: b"x" * 3_000_000}
        box = _box(server, taken, move_to="Done")

        assert (await box.read(), await box.read()) == (2, 0)

        assert sorted(server.folders["Done"]) == [3, 4]
        assert server.folders["INBOX"].keys() - server.deleted == set()
    assert taken.mails == [ODD, b"x" * MAX_REPORT_BYTES]


async def test_a_mail_is_marked_only_after_it_was_processed() -> None:
    class Failing(Taken):
        async def process(self, raw: bytes) -> None:
            raise ConnectionResetError("the database is away")

    async with ImapServer() as server:
        server.folders["INBOX"] = {3: ODD}
        with pytest.raises(ConnectionResetError):
            await _box(server, Failing()).read()
        assert server.seen == set()


COMMANDS = ["GREETING", "LOGIN", "SELECT", "UID SEARCH", "UID FETCH", "UID STORE"]


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_wait_ends_and_every_refusal_is_told(command: str) -> None:
    for way in (HANG, DROP, "NO not now", "BAD what?"):
        async with ImapServer(misbehave=lambda name, way=way: way if name == command else None) as server:  # type: ignore[misc]
            server.folders["INBOX"] = {3: ODD}
            with pytest.raises(ImapProblem) as told:
                await _box(server, Taken(), seconds=0.2).read()
            assert server.password not in str(told.value)


async def test_a_server_that_is_not_there_or_refuses_us_is_told() -> None:
    async with ImapServer() as server:
        here = ImapMailbox("127.0.0.1", server.port, False, server.user, server.password, "INBOX")
        for mailbox, problem in (
            (replace(here, password="wrong"), "refuses user or password"),
            (replace(here, folder="Nothing"), "no folder Nothing"),
        ):
            with pytest.raises(ImapProblem, match=problem):
                await _box(server, Taken(), mailbox=mailbox).read()
    with pytest.raises(ImapProblem, match="nothing listens there"):
        await _box(server, Taken()).read()


async def test_it_goes_on_when_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounce_imap, "_TOLD_AFTER", 0.0)
    taken, stop, away = Taken(), asyncio.Event(), True
    async with ImapServer(misbehave=lambda _name: DROP if away else None) as server:
        server.folders["INBOX"] = {3: ODD}
        box = _box(server, taken)
        loop = asyncio.create_task(box.serve(stop))
        async with asyncio.timeout(60):
            while box.problem is None:
                await asyncio.sleep(0.01)
            away = False
            while not taken.mails or box.problem:
                await asyncio.sleep(0.01)
        stop.set()
        await loop


async def test_tls_is_verified_against_the_authority(tmp_path: Path) -> None:
    made, taken = certificates.make(tmp_path), Taken()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    async with ImapServer(tls=context) as server:
        server.folders["INBOX"] = {3: ODD}
        with pytest.raises(ImapProblem, match="not trusted here"):
            await _box(server, taken).read()
        trusted = ssl.create_default_context(cafile=str(made.authority))
        assert await _box(server, taken, tls=trusted).read() == 1


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("imaps://bounce%40example.org:p%2Fw@imap.example.org", (993, True, "bounce@example.org", "INBOX")),
        ("imaps://u:sesame@imap.example.org:1993/Bounces/new", (1993, True, "u", "Bounces/new")),
        ("imap://u:sesame@127.0.0.1/INBOX", (143, False, "u", "INBOX")),
    ],
)
def test_a_mailbox_is_named_by_a_url(url: str, read: tuple[int, bool, str, str]) -> None:
    box = ImapMailbox.parse(url)
    assert (box.port, box.tls, box.user, box.folder) == read
    assert box.password not in repr(box)


@pytest.mark.parametrize(
    "url",
    [
        "imap://u:sesame@imap.example.org",
        "imaps://u@imap.example.org",
        "imaps://:sesame@imap.example.org",
        "imaps://u:sesame@",
        "imaps://u:ses/ame@imap.example.org",
        "imaps://u:sesame@imap.example.org/INBOX?x=1",
        "imaps://u:sesame@imap.example.org/%22",
        "imaps://u:sesame@imap.example.org/Ablage%C3%A4",
        "pop3://u:sesame@imap.example.org",
        "sesame",
    ],
)
def test_what_names_no_mailbox_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"IMAP|imaps|folder") as told:
        ImapMailbox.parse(url)
    assert "sesame" not in str(told.value)
