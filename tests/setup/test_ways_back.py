"""The ways on which bounces come back are those that the settings name."""

import asyncio
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest

from service.errors import ConfigurationError
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.suppression import Suppressions
from service.settings import Settings
from service.setup.parts import problems_of
from service.setup.preflight import check_connections
from service.setup.ways_back import WaysBack
from tests.imap_server import ImapServer
from tests.kinds import KINDS

_BOUNCES = {"BOUNCE_ADDRESS": "bounce@example.org", "BOUNCE_SECRET": "a secret of sixteen"}
_TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"


class _Taken:
    def __init__(self, stop: asyncio.Event) -> None:
        self.mails: list[bytes] = []
        self._stop = stop

    async def process(self, raw: bytes) -> None:
        self.mails.append(raw)
        self._stop.set()


def _imap(server: ImapServer, password: str = "") -> dict[str, str]:
    secret = quote(password or server.password, safe="")
    return _BOUNCES | {
        "BOUNCE_IMAP_URL": f"imap://{quote(server.user)}:{secret}@127.0.0.1:{server.port}/INBOX",
        "BOUNCE_IMAP_MOVE_TO": "Done",
    }


async def test_a_mailbox_is_read_and_checked_before(tmp_path: Path) -> None:
    stop, no_database = asyncio.Event(), cast("Suppressions", None)
    taken = _Taken(stop)
    async with ImapServer() as server:
        server.folders["INBOX"] = {3: b"Subject: x\r\n\r\n"}
        environ = {"DATA_DIR": str(tmp_path), **_imap(server)}
        settings = Settings.load(environ)

        told = (await check_connections(settings, KINDS.values()))["bounces"]
        assert (told.problems, len(told.facts), server.folders["Done"]) == ([], 1, {})
        wrong = Settings.load(environ | _imap(server, "sesame"))
        (problem,) = (await check_connections(wrong, KINDS.values()))["bounces"].problems
        assert problem == "BOUNCE_IMAP_URL: the server refuses user or password"

        ways = WaysBack(settings, cast("BounceIntake", taken), no_database)
        async with asyncio.timeout(60):
            await ways.loops["imap"](stop)
        assert (list(server.folders["Done"]), ways.problem()) == ([3], None)


async def test_only_webhooks_of_configured_providers_are_there() -> None:
    no_database: Any = None
    everything = {"SNS_TOPIC_ARNS": f"{_TOPIC}, {_TOPIC}2", "POSTMARK_WEBHOOK_SECRET": "s" * 16}
    for environ, names in (({}, set()), (everything, {"ses", "postmark"})):
        ways = WaysBack(Settings.load(environ), None, no_database)
        assert set(ways.webhooks.providers) == names
        assert ways.loops == {}


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"BOUNCE_IMAP_URL": "imaps://u:sesame@imap.example.org"}, "BOUNCE_IMAP_URL: bounces are recognised"),
        (_BOUNCES | {"BOUNCE_IMAP_URL": "imap://u:sesame@example.org"}, "BOUNCE_IMAP_URL: must be imaps"),
        (_BOUNCES | {"BOUNCE_IMAP_MOVE_TO": "Done"}, "BOUNCE_IMAP_MOVE_TO: there is no mailbox"),
        ({"BOUNCE_IMAP_MOVE_TO": 'a"b'}, "BOUNCE_IMAP_MOVE_TO: the folder must have"),
        ({"BOUNCE_IMAP_CA_FILE": "/nowhere.pem"}, "BOUNCE_IMAP_CA_FILE: /nowhere.pem is no file"),
        ({"SNS_TOPIC_ARNS": f"{_TOPIC},bounces"}, "SNS_TOPIC_ARNS: 'bounces' is no topic"),
        ({"POSTMARK_WEBHOOK_SECRET": "short"}, "POSTMARK_WEBHOOK_SECRET: needs 16 characters"),
    ],
)
def test_what_cannot_be_is_told_by_name(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        Settings.load(environ)
    assert problem in str(told.value)
    assert "sesame" not in str(told.value)


def test_secrets_are_not_shown() -> None:
    environ = _BOUNCES | {
        "BOUNCE_IMAP_URL": "imaps://u:sesame@imap.example.org/INBOX",
        "POSTMARK_WEBHOOK_SECRET": "sesame " * 3,
    }
    settings = Settings.load(environ)
    assert "sesame" not in f"{settings.described()} {settings!r}"


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aioimaplib", None)
    monkeypatch.delitem(sys.modules, "service.messages.mail.bounce_imap", raising=False)
    settings = Settings.load(_BOUNCES | {"BOUNCE_IMAP_URL": "imaps://u:p@imap.example.org"})
    (problem,) = problems_of(settings)
    assert "install [imap]" in problem
