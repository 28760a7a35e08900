"""Webhooks of both providers, as a service has them that listens to both."""

import asyncio
from datetime import timedelta

import asyncpg

from service.messages.mail.providers.postmark import PostmarkProvider
from service.messages.mail.providers.provider_intake import ProviderIntake
from service.messages.mail.providers.ses import SesProvider
from service.messages.mail.providers.signing_certificates import SigningCertificates
from service.messages.mail.providers.webhooks import Webhooks
from service.messages.mail.verp import delivery_of
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from tests.messages.mail.providers.sns import TOPIC, Outside
from tests.messages.mail.test_bounce_intake import BASE, SECRET

POSTMARK_SECRET = "a secret of the operator's own"


def listening(pool: asyncpg.Pool, outside: Outside) -> Webhooks:
    """The webhooks; ``outside``: what they can fetch."""
    bounces = Suppressions(pool, Outbox(pool, "a", timedelta(seconds=60)))
    certificates = SigningCertificates(outside, asyncio.get_running_loop().time)
    return Webhooks(
        ProviderIntake(bounces, lambda address: delivery_of(address, BASE, SECRET)),
        {
            "ses": SesProvider({TOPIC}, certificates, outside),
            "postmark": PostmarkProvider(POSTMARK_SECRET),
        },
    )
