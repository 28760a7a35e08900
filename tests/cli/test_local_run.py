"""``run`` in a process of its own sends what it planned, and leaves a server alone that refuses it."""

from types import SimpleNamespace
from typing import cast

import pytest

from service.app import Service
from service.cli.local.jobs import send_due
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from tests.given import GOALS, Scripted, World, goal, refused, user


async def test_a_server_that_refuses_all_mail_is_tried_once(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n}" for n in range(20)]
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)
    tried: list[int] = []

    def refuse(mail: Envelope) -> SendResult:
        tried.append(mail.id)
        return refused(mail, SmtpPhase.MAIL, 550, "5.7.1 not you")

    transport = Scripted(refuse, connections=1)
    service = SimpleNamespace(delivery=world.delivery(transport, connections=1), inbox=None)
    for _ in range(2):
        await send_due(cast("Service", service))

    assert len(tried) == 2
    assert "Mails wait: the mail server refuses us at mail: 550" in capsys.readouterr().err
