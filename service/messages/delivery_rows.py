"""Stores the messages that a job decided on: deliveries, stages and notifications, a page at a time."""

import hashlib
import hmac
import secrets
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Protocol
from zlib import crc32

import asyncpg

from service.dashboard.model import QuietHours, User
from service.dashboard.notification import navigate
from service.engine import queries
from service.mail_address import mail_address
from service.messages.decision import Message
from service.messages.eligibility import ContactHistory, PastMessage
from service.messages.kind import Channel

_SQL = queries.load(__file__)
_TOKEN_BYTES = 16


class NoticeText(Protocol):
    """The words of an in-app notification, in its reader's language."""

    @property
    def title(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def button(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """A message on one channel, ready for the outbox. Instants are aware, UTC."""

    message: Message
    channel: Channel
    user: User
    not_before: datetime
    expires_at: datetime
    dedupe_key: str
    notice: NoticeText | None = None


@dataclass(frozen=True, slots=True)
class RunStamp:
    """What all messages of a run share. ``resent``: kinds sent a second time when nobody knows if they
    arrived.

    ``spread``: the time over which the mails of one slot are sent, so that nine o'clock in one zone causes no
    spike. ``to_dashboard``: in-app messages are also written into the dashboard's inbox. ``traceparent``: the
    trace context of the step that plans them.
    """

    run_id: int | None
    job: str
    as_of: datetime
    mail_domain: str
    resent: frozenset[str] = frozenset()
    spread: timedelta = timedelta(0)
    to_dashboard: bool = False
    traceparent: str | None = None
    message_id_secret: bytes = field(default=b"", repr=False)


async def lock_budget(connection: asyncpg.Connection) -> None:
    """Lock the budget of nudges until the end of the transaction, so that jobs do not exceed it together."""
    await connection.execute(_SQL["lock_budget"])


async def lock_existing_users(connection: asyncpg.Connection, user_ids: Sequence[str]) -> frozenset[str]:
    """Those of these users that still exist. None of them is erased before the transaction ends."""
    await connection.execute(_SQL["block_erasure"])
    return frozenset(row["id"] for row in await connection.fetch(_SQL["existing_users"], list(user_ids)))


async def contact_histories(
    connection: asyncpg.Connection, users: Sequence[User], at: datetime
) -> dict[str, ContactHistory]:
    """The contact history of some users, by id; ``past``: messages within nine days of ``at``."""
    rows = await connection.fetch(
        _SQL["contact_history"], [u.id for u in users], [mail_address(u.email) for u in users], at
    )
    return {row["user_id"]: contact_history_from_row(row) for row in rows}


def contact_history_from_row(row: asyncpg.Record) -> ContactHistory:
    """From ``overrides`` [[kind, channel, on]], ``suppressed``, ``paused_until``, ``quiet``, ``past``."""
    quiet = row["quiet"]
    return ContactHistory(
        overrides={(kind, channel): enabled for kind, channel, enabled in row["overrides"] or ()},
        suppressed=row["suppressed"],
        paused_until=row["paused_until"],
        quiet=QuietHours(time.fromisoformat(quiet[0]), time.fromisoformat(quiet[1])) if quiet else None,
        past=tuple(
            PastMessage(kind, channel, date.fromisoformat(day), key)
            for kind, channel, day, key in row["past"] or ()
        ),
    )


async def plan(
    connection: asyncpg.Connection, stamp: RunStamp, planned: Sequence[PlannedMessage]
) -> set[tuple[str, str]]:
    """Put messages into the outbox. Returns the (dedupe key, channel) that are new; the rest existed."""
    if not planned:
        return set()
    rows = await connection.fetch(_SQL["plan"], [_row(stamp, message) for message in planned])
    return {(row["dedupe_key"], row["channel"]) for row in rows}


async def existing_messages(connection: asyncpg.Connection, keys: Sequence[str]) -> set[tuple[str, str]]:
    """The (dedupe key, channel) of the messages with these keys that are in the outbox already."""
    return {
        (row["dedupe_key"], row["channel"])
        for row in await connection.fetch(_SQL["existing_messages"], list(keys))
    }


def message_id(dedupe_key: str, channel: Channel, mail_domain: str, secret: bytes = b"") -> str:
    """The Message-ID, without angle brackets; always the same for the same message.

    With a ``secret`` nobody else can compute it, so that who names it has seen the mail.
    """
    if not secret:
        return f"{unkeyed_message_id(dedupe_key, channel)}@{mail_domain}"
    mac = hmac.new(secret, f"message-id:{dedupe_key}/{channel}".encode(), hashlib.sha256)
    return f"{mac.hexdigest()[:32]}@{mail_domain}"


def unkeyed_message_id(dedupe_key: str, channel: Channel) -> str:
    """What stands before the @ without a secret, as before 0.2: who knows user and date can compute it."""
    return hashlib.sha256(f"{dedupe_key}/{channel}".encode()).hexdigest()[:32]


def new_token() -> str:
    """A random token of a mail's links and of its unsubscribe address: 128 bits in lower case, because mail
    servers may change the case of an address.
    """
    return b32encode(secrets.token_bytes(_TOKEN_BYTES)).decode("ascii").rstrip("=").lower()


def _row(stamp: RunStamp, planned: PlannedMessage) -> Mapping[str, Any]:
    message, user = planned.message, planned.user
    mail = planned.channel is Channel.EMAIL
    return {
        "dedupe_key": planned.dedupe_key,
        "channel": planned.channel,
        "job": stamp.job,
        "run_id": stamp.run_id,
        "kind": message.kind.name,
        "user_id": user.id,
        "zone": message.zone,
        "local_date": message.local_date.isoformat(),
        "template": message.kind.template,
        "locale": user.locale,
        "address": mail_address(user.email) if mail else None,
        "recipient_name": user.name,
        "facts": message.facts if mail or stamp.to_dashboard else {},
        "message_id": message_id(
            planned.dedupe_key, planned.channel, stamp.mail_domain, stamp.message_id_secret
        ),
        "message_date": stamp.as_of.isoformat(),
        "token": new_token(),
        "unconfirmed_policy": "resend" if message.kind.name in stamp.resent else "hold",
        "not_before": (
            planned.not_before + spread_delay(stamp.spread, planned.channel, planned.dedupe_key)
        ).isoformat(),
        "expires_at": planned.expires_at.isoformat(),
        "in_app": None if mail else _in_app(planned, to_dashboard=stamp.to_dashboard),
        "stages": list(message.stages),
        "traceparent": stamp.traceparent,
    }


def spread_delay(spread: timedelta, channel: Channel, dedupe_key: str) -> timedelta:
    """By how much of ``spread`` a mail is delayed; always the same for the same mail."""
    if channel is not Channel.EMAIL:
        return timedelta(0)
    return spread * (crc32(dedupe_key.encode()) / 2**32)


def _in_app(planned: PlannedMessage, *, to_dashboard: bool) -> dict[str, Any]:
    message, words = planned.message, planned.notice
    assert words is not None
    return {
        "type": message.kind.in_app_type,
        **{key: message.in_app.get(key) for key in ("priority", "data")},
        "title": words.title,
        "message": words.message,
        "action": navigate(message.in_app["url"], words.button),
        "life": f"{int(message.in_app_life.total_seconds())} seconds",
        "to_dashboard": to_dashboard,
    }
