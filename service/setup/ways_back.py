"""The ways on which bounces and complaints come back, made from the settings."""

import asyncio
import ssl
from typing import TYPE_CHECKING

from service.engine.loops import Loop, cancelled_at_stop
from service.errors import ConfigurationError
from service.messages.mail.bounce_intake import BounceIntake, BounceMaildir
from service.messages.mail.imap_mailbox import ImapMailbox
from service.messages.mail.providers.https_get import https_get
from service.messages.mail.providers.postmark import PostmarkProvider
from service.messages.mail.providers.provider_event import Provider
from service.messages.mail.providers.provider_intake import ProviderIntake
from service.messages.mail.providers.ses import SesProvider
from service.messages.mail.providers.signing_certificates import SigningCertificates
from service.messages.mail.providers.webhooks import Webhooks
from service.messages.mail.verp import delivery_of
from service.messages.suppression import Suppressions
from service.settings import Settings

if TYPE_CHECKING:
    from service.messages.mail.bounce_imap import BounceImap


class WaysBack:
    """Mailboxes that are read, and webhooks. ``intake`` None: there is no BOUNCE_ADDRESS."""

    def __init__(self, settings: Settings, intake: BounceIntake | None, bounces: Suppressions) -> None:
        self.loops: dict[str, Loop] = {}
        self.webhooks = _webhooks(settings, bounces)
        self._imap: BounceImap | None = None
        if intake and settings.bounce_maildir:
            self.loops["bounces"] = BounceMaildir(settings.bounce_maildir, intake).serve
        if intake and settings.bounce_imap_url:
            self._imap = _imap(settings, intake)
            self.loops["imap"] = cancelled_at_stop(self._imap.serve)

    def problem(self) -> str | None:
        """What has kept us from reading a mailbox for a while."""
        return self._imap.problem if self._imap else None


def require_imap(settings: Settings) -> None:
    """Raises ConfigurationError if a mailbox is to be read and the library for it is missing."""
    if settings.bounce_imap_url:
        try:
            import service.messages.mail.bounce_imap  # noqa: F401, PLC0415  an extra
        except ImportError:
            problem = (
                "BOUNCE_IMAP_URL is set and aioimaplib is not installed: install [imap], or leave it empty"
            )
            raise ConfigurationError([problem]) from None


async def imap_problem(settings: Settings, seconds: float) -> str | None:
    """Why the mailbox of bounces cannot be read; None: it can. ``seconds``: for each exchange."""
    from service.messages.mail.bounce_imap import ImapProblem, check_mailbox  # noqa: PLC0415  an extra

    mailbox, tls = _mailbox(settings)
    try:
        await check_mailbox(mailbox, tls, seconds)
    except ImapProblem as problem:
        return str(problem)
    return None


def _imap(settings: Settings, intake: BounceIntake) -> "BounceImap":
    require_imap(settings)
    from service.messages.mail.bounce_imap import BounceImap  # noqa: PLC0415  an extra

    mailbox, tls = _mailbox(settings)
    return BounceImap(mailbox, intake, move_to=settings.bounce_imap_move_to, tls=tls)


def _mailbox(settings: Settings) -> tuple[ImapMailbox, ssl.SSLContext]:
    context = ssl.create_default_context(cafile=settings.bounce_imap_ca_file)
    return ImapMailbox.parse(settings.bounce_imap_url), context


def _webhooks(settings: Settings, bounces: Suppressions) -> Webhooks:
    """Those of the providers that are configured."""
    providers: dict[str, Provider] = {}
    if settings.sns_topics:
        certificates = SigningCertificates(https_get, asyncio.get_running_loop().time)
        providers["ses"] = SesProvider(settings.sns_topics, certificates, https_get)
    if settings.postmark_webhook_secret:
        providers["postmark"] = PostmarkProvider(settings.postmark_webhook_secret)
    base, secret = settings.bounce_address, settings.bounce_secret.encode()

    def signed(sender: str) -> int | None:
        return delivery_of(sender, base, secret) if base else None

    return Webhooks(ProviderIntake(bounces, signed), providers)
