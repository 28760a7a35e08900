"""The preference page shows what the sending rules do: two readers of the same decisions."""

import random

from service.dashboard.model import User
from service.dashboard.replica import preferences_from_json
from service.messages.eligibility import ContactHistory, contact_refusal
from service.messages.kind import Channel
from service.web.recipients.views import effective
from tests.given import NINE_IN_BERLIN
from tests.kinds import KINDS


def test_a_switch_is_on_exactly_when_the_mail_would_be_sent() -> None:
    dice = random.Random(7)
    for _ in range(500):
        stored = {
            name: dice.choice([True, False]) for name in ("email", "reminders") if dice.random() < 0.5
        } | {"kinds": {kind: dice.choice([True, False]) for kind in KINDS if dice.random() < 0.4}}
        overrides = {
            (kind, channel): dice.choice([True, False])
            for kind in [*KINDS, "*"]
            for channel in ("email", "in_app", "*")
            if dice.random() < 0.15
        }
        wishes = preferences_from_json(stored)
        user = User("u", "N", "n@example.org", "UTC", "en", True, None, None, wishes)
        known = ContactHistory(overrides)
        sent = {
            (kind.name, channel): contact_refusal(user, kind, channel, known, NINE_IN_BERLIN) is None
            for kind in KINDS.values()
            for channel in Channel
        }
        assert effective(stored, overrides, KINDS.values()) == sent
