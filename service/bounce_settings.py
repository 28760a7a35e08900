"""Settings of the ways on which bounces and complaints come back; a part of ``service.settings``."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from service.messages.mail.imap_mailbox import ImapMailbox
from service.messages.mail.providers.sns_message import valid_topic

SHORTEST_SECRET = 16
BOUNCE_SECRETS = ("bounce_secret", "postmark_webhook_secret")


def _imap_url(text: str) -> str:
    if text:
        ImapMailbox.parse(text)
    return text


def _imap_folder(text: str) -> str:
    if text:
        ImapMailbox.check_folder(text)
    return text


def _authority(path: Path | None) -> Path | None:
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
        raise ValueError(f"{path} is no file that can be read; name the PEM file of the authority (CA)")
    return path


def _topics(text: str) -> str:
    for arn in _listed(text):
        if not valid_topic(arn):
            raise ValueError(f"{arn!r} is no topic; use one like arn:aws:sns:eu-west-1:123456789012:bounces")
    return text


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


class BounceSettings(BaseModel):
    """How bounces and complaints come back."""

    bounce_address: str = ""
    """Where bounces go, e.g. bounce@example.org; senders name their delivery (VERP). Empty: none."""
    bounce_secret: str = Field(default="", repr=False)
    """Signs the names of deliveries in bounce addresses; the same on all replicas, for ever."""
    bounce_maildir: Path | None = None
    """A Maildir that receives what is sent to BOUNCE_ADDRESS; read every minute."""
    bounce_imap_url: Annotated[str, AfterValidator(_imap_url)] = Field(default="", repr=False)
    """A mailbox that receives it, imaps://user:password@host/folder; read every minute."""
    bounce_imap_move_to: Annotated[str, AfterValidator(_imap_folder)] = ""
    """The folder into which read mails go; empty: they stay, marked as seen."""
    bounce_imap_ca_file: Annotated[Path | None, AfterValidator(_authority)] = None
    """PEM of the private authority that signs the certificate of the IMAP server."""
    sns_topic_arns: Annotated[str, AfterValidator(_topics)] = ""
    """Topics to which Amazon SES reports, e.g. arn:aws:sns:eu-west-1:123456789012:bounces."""
    postmark_webhook_secret: str = Field(default="", repr=False)
    """What Postmark's webhooks send as the password, or as X-Webhook-Secret."""

    @property
    def sns_topics(self) -> frozenset[str]:
        """The topics to which Amazon SES reports."""
        return _listed(self.sns_topic_arns)

    def bounce_problems(self) -> list[str]:
        """What is wrong with these settings together; a sentence each."""
        problems = [
            f"{name.upper()}: bounces are recognised by BOUNCE_ADDRESS; set it too"
            for name in ("bounce_maildir", "bounce_imap_url")
            if getattr(self, name) and not self.bounce_address
        ]
        problems += [
            f"{name.upper()}: there is no mailbox; set BOUNCE_IMAP_URL too"
            for name in ("bounce_imap_move_to", "bounce_imap_ca_file")
            if getattr(self, name) and not self.bounce_imap_url
        ]
        if self.bounce_address and len(self.bounce_secret) < SHORTEST_SECRET:
            problems.append(
                f"BOUNCE_SECRET needs {SHORTEST_SECRET} characters or more where BOUNCE_ADDRESS is set"
            )
        if 0 < len(self.postmark_webhook_secret) < SHORTEST_SECRET:
            problems.append(f"POSTMARK_WEBHOOK_SECRET: needs {SHORTEST_SECRET} characters or more")
        return problems
