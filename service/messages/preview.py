"""Previews and test mails: what a job would send, without the outbox.

The links in a preview belong to no user, so it can be passed around.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import asyncpg

from service.dashboard.model import User
from service.engine import queries
from service.engine.job import Job, find
from service.engine.runner import Runner
from service.engine.schedule import check_instant
from service.errors import BadRequest, MailRefused, NothingToSay, UnknownUser
from service.mail_address import mail_address
from service.messages.decision import Decision, Skip
from service.messages.delivery_rows import new_token
from service.messages.kind import Channel
from service.messages.mail.compose import Composer, Email, email_of
from service.messages.mail.render import Notice, RenderError
from service.messages.mail.sample_goals import RECIPIENT
from service.messages.mail.transport import Envelope, SendResult, Transport
from service.messages.mail.words import words_for
from service.messages.reminder import Reminder, decide_for_user

_SQL = queries.load(__file__)
_NO_ADDRESS = "nobody@example.org"
_HIDDEN_LINK = "links-are-hidden-from-viewers"


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """Which mail. With ``user_id`` the one that the job decides for that user at ``at`` (default: now);
    without, a sample: the first or that of ``variant``. ``locale``: instead of the user's."""

    job_type: str
    job_name: str
    user_id: str | None = None
    at: datetime | None = None
    variant: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail as subject, text and HTML; ``source``: the complete message with its headers."""

    subject: str
    text: str
    html: str
    source: str


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A rendered message of the outbox. A mail has ``mail``, an in-app notification ``notice``."""

    channel: str
    state: str
    mail: Preview | None
    notice: Notice | None


class Previewer:
    """Shows and sends what jobs would send. ``compose`` makes the bytes of an email, signed if mails are."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        runner: Runner,
        jobs: Mapping[str, Job],
        composer: Composer,
        compose: Callable[[Email], bytes],
        transport: Transport,
    ) -> None:
        self._pool = pool
        self._runner = runner
        self._jobs = dict(jobs)
        self._composer = composer
        self._compose = compose
        self._transport = transport

    async def preview(self, request: PreviewRequest) -> Preview:
        """The mail. Raises UnknownJobType, UnknownJob, UnknownUser, BadRequest, NothingToSay."""
        return self._preview_of(await self._email(request))

    async def send_test(self, request: PreviewRequest, to: str, actor: str) -> str:
        """Send it once to ``to``, beside the outbox; returns its Message-ID. ``actor``: for the audit.

        Raises what ``preview`` raises, and MailRefused.
        """
        address = mail_address(to)
        if address is None:
            raise BadRequest("to is not an address that mail can be sent to")
        email = await self._email(request)
        email = replace(email, address=address, reason=words_for(email.locale).test_reason)
        result = await self._send(email)
        details = {
            "job": email.job,
            "userId": request.user_id,
            "to": to,
            "messageId": email.message_id,
            "accepted": result.accepted,
        }
        await self._pool.execute(_SQL["audit"], actor, details)
        if not result.accepted:
            raise MailRefused(f"The mail server did not take it ({result.phase}): {result.reply}")
        return email.message_id

    async def delivered(self, delivery: int, *, links: bool) -> StoredMessage | None:
        """A message of the outbox as it was, or would be, sent: made of its frozen facts. None: unknown.

        ``links`` False: the links of the mail lead to nobody's preferences, for whoever may only look.
        Raises NothingToSay where its template does not fit the facts any more.
        """
        row = await self._pool.fetchrow(_SQL["delivery"], delivery)
        if row is None:
            return None
        try:
            mail = (
                self._preview_of(_email_from_row(row, links=links))
                if row["channel"] == Channel.EMAIL
                else None
            )
        except (ValueError, KeyError, TypeError, RenderError) as error:
            raise NothingToSay(f"This message can no longer be composed: {error}") from None
        notice = Notice(row["title"], row["message"], row["button"]) if row["title"] is not None else None
        return StoredMessage(row["channel"], row["state"], mail, notice)

    async def _email(self, request: PreviewRequest) -> Email:
        job = find(self._jobs, request.job_type, request.job_name)
        if not isinstance(job, Reminder):
            raise BadRequest(f"{job.id} writes no mails")
        now = await self._pool.fetchval(_SQL["now"])
        if request.user_id is None:
            return self._sample_email(job, request, now)
        if request.variant is not None:
            raise BadRequest("variant chooses a sample: leave it out, or leave out userId")
        return await self._email_for_user(job, request.user_id, request, now)

    def _sample_email(self, job: Reminder, request: PreviewRequest, now: datetime) -> Email:
        if request.at is not None:
            raise BadRequest("at needs userId: a sample is the same at any time")
        samples = {sample.variant: sample for sample in job.kind.samples}
        sample = samples.get(request.variant) if request.variant else job.kind.samples[0]
        if sample is None:
            raise BadRequest(f"variant must be one of {', '.join(samples)}")
        return self._email_of(job, sample.facts, RECIPIENT, request.locale or "en", now)

    async def _email_for_user(
        self, job: Reminder, user_id: str, request: PreviewRequest, now: datetime
    ) -> Email:
        result = await self._decide(job, user_id, request.at or now)
        if result is None:
            if not await self._pool.fetchval(_SQL["user_exists"], user_id):
                raise UnknownUser(user_id)
            raise NothingToSay(f"{job.name} does not look at this user then")
        user, decision = result
        if isinstance(decision, Skip):
            raise NothingToSay(f"{decision.reason}: {decision.detail}")
        if Channel.EMAIL not in decision.channels:
            raise NothingToSay("Only an in-app notification would be shown, no mail")
        return self._email_of(job, decision.facts, user.name, request.locale or user.locale, now)

    async def _decide(self, job: Reminder, user_id: str, at: datetime) -> tuple[User, Decision] | None:
        check_instant(at)
        await self._runner.refresh(None)
        tick = self._runner.dry_tick(job.id, at, user_id)
        async with self._pool.acquire() as proxy, proxy.transaction(readonly=True):
            return await decide_for_user(cast("asyncpg.Connection", proxy), job, tick)

    def _email_of(
        self, job: Reminder, facts: Mapping[str, Any], name: str, locale: str, now: datetime
    ) -> Email:
        domain = self._composer.sender.rpartition("@")[2]
        return Email(
            template=job.kind.template,
            facts=facts,
            recipient_name=name,
            address=_NO_ADDRESS,
            message_id=f"test.{secrets.token_hex(16)}@{domain}",
            message_date=now,
            token=new_token(),
            job=job.id,
            locale=locale,
        )

    def _preview_of(self, email: Email) -> Preview:
        rendered = self._composer.render(
            email.template,
            email.facts,
            locale=email.locale,
            name=email.recipient_name,
            links=self._composer.links(email.token),
        )
        source = self._compose(email).decode()
        return Preview(rendered.subject, rendered.text, rendered.html, source)

    async def _send(self, email: Email) -> SendResult:
        envelope = Envelope(0, self._composer.sender, email.address, self._compose(email))
        return await self._transport.send_one(envelope)


def _email_from_row(row: asyncpg.Record, *, links: bool) -> Email:
    """The email of a row of the outbox: the same bytes as when it was sent, except for hidden links."""
    return email_of(row.__getitem__, **({} if links else {"token": _HIDDEN_LINK}))
