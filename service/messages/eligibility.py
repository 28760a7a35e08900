"""Whether and when a user may be contacted; for all jobs, at planning and before sending. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from service.dashboard.model import Preferences, QuietHours, User
from service.engine.run import Tick, Trigger
from service.engine.schedule import to_instant
from service.mail_address import valid_address
from service.messages.decision import Message
from service.messages.kind import Channel, MessageKind, Purpose
from service.messages.reason import Reason
from service.zones import zone_of

Overrides = Mapping[tuple[str, str], bool]
"""(kind or ``*``, channel or ``*``) → on or off: choices made here; they override the dashboard's."""

_NUDGES_A_WEEK = 3
_PROMPTS_A_DAY = 2
_WEEK = timedelta(days=7)
_NIGHT = QuietHours(time(21), time(8))
_MANUAL_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message that was planned for a user, and counts as delivered."""

    kind: str
    channel: str
    local_date: date
    dedupe_key: str


@dataclass(frozen=True, slots=True)
class ContactHistory:
    """What this service knows about a recipient, besides what the dashboard says.

    ``suppressed``: the address is on the suppression list. ``paused_until``: all messages are paused until
    then. ``quiet``: quiet hours chosen here, which override the dashboard's. ``past``: messages of the last
    days.
    """

    overrides: Overrides = field(default_factory=dict)
    suppressed: bool = False
    paused_until: datetime | None = None
    quiet: QuietHours | None = None
    past: tuple[PastMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageTerms:
    """The terms on which a run sends a message; instants are aware, UTC.

    ``start``: the earliest time. ``expires``: when it becomes useless. ``key``: its dedupe key. ``capped``:
    whether the budget applies (not to a forced run). ``late``: a catch-up run, which does not send at night.
    ``nudges``: the names of all kinds that share the budget of nudges.
    """

    start: datetime
    expires: datetime
    key: str
    capped: bool
    late: bool
    nudges: frozenset[str]


def message_terms(message: Message, tick: Tick, now: datetime, nudges: frozenset[str]) -> MessageTerms:
    """The terms of a run that is executed at ``now``. A manual run starts now, for a day."""
    return MessageTerms(
        start=now if tick.manual else max(now, tick.as_of),
        expires=max(message.expires_at, now + _MANUAL_LIFE) if tick.manual else message.expires_at,
        key=f"{message.dedupe_key}:force:{tick.run_id}" if tick.force else message.dedupe_key,
        capped=not tick.force,
        late=tick.trigger is Trigger.CATCHUP,
        nudges=nudges,
    )


RuleResult = Reason | datetime | None
"""The result of a rule: why the message may not be sent, from when on it may, or None: no objection."""


def rule_results(
    message: Message, user: User, channel: Channel, history: ContactHistory, terms: MessageTerms
) -> Iterator[tuple[str, RuleResult]]:
    """The name and result of each rule about a message on a channel, in the order of evaluation.

    Account, address, preferences, pause, suppression; budget; quiet hours. The result of the last is the time
    from which the message may be sent.
    """
    yield from contact_rules(user, message.kind, channel, history, terms.start)
    arguments = (message.kind, channel, message.local_date, terms.key, history.past, terms.nudges)
    yield "budget", budget(*arguments) if terms.capped else None
    yield (
        "quiet_hours",
        earliest_time(user, message.kind, history, terms.start, terms.expires, late=terms.late),
    )


def eligible_at(
    message: Message, user: User, channel: Channel, history: ContactHistory, terms: MessageTerms
) -> datetime | Reason:
    """When a message may be sent on a channel, or the reason of the first rule that forbids it."""
    result: RuleResult = None
    for _, result in rule_results(message, user, channel, history, terms):
        if isinstance(result, Reason):
            return result
    assert isinstance(result, datetime)
    return result


def contact_refusal(
    user: User, kind: MessageKind, channel: Channel, history: ContactHistory, at: datetime
) -> Reason | None:
    """The reason of the first rule that forbids this kind on this channel at ``at``; None: none does."""
    return next((reason for _, reason in contact_rules(user, kind, channel, history, at) if reason), None)


def contact_rules(
    user: User, kind: MessageKind, channel: Channel, history: ContactHistory, at: datetime
) -> Iterator[tuple[str, Reason | None]]:
    """The name of each rule about contacting a user, in order, and the reason if it forbids it.

    An account that is not active gets nothing; without a valid address there are notifications all the same.
    """
    yield "account", None if user.active else Reason.INACTIVE_ACCOUNT
    reachable = channel is Channel.IN_APP or valid_address(user.email)
    yield "address", None if reachable else Reason.NO_EMAIL
    yield "wishes", blocked_by_preferences(user.preferences, kind, channel, history.overrides)
    paused = history.paused_until is not None and at < history.paused_until
    yield "pause", Reason.PAUSED_UNTIL if paused else None
    suppressed = history.suppressed and channel is Channel.EMAIL
    yield "suppression", Reason.SUPPRESSED_ADDRESS if suppressed else None


def budget(
    kind: MessageKind,
    channel: Channel,
    local_date: date,
    dedupe_key: str,
    past: Sequence[PastMessage],
    nudges: Collection[str],
) -> Reason | None:
    """None when the budget allows one more message, else CAP_DAILY or CAP_WEEKLY.

    Nudges by mail: one a local day and three in seven days, all kinds of nudges together. Prompts by mail:
    two a day. In-app messages: one per kind and day, prompts apart. ``past`` may hold the message itself.
    """
    others = [other for other in past if other.dedupe_key != dedupe_key and other.channel == channel]
    same_day = [other for other in others if other.local_date == local_date]
    same_kind = sum(other.kind == kind.name for other in same_day)
    if channel is Channel.IN_APP:
        return Reason.CAP_DAILY if same_kind and kind.purpose is not Purpose.PROMPT else None
    if kind.purpose is Purpose.PROMPT:
        return Reason.CAP_DAILY if same_kind >= _PROMPTS_A_DAY else None
    if kind.purpose is not Purpose.NUDGE:
        return None
    if any(other.kind in nudges for other in same_day):
        return Reason.CAP_DAILY
    week = [o for o in others if o.kind in nudges and abs(o.local_date - local_date) < _WEEK]
    return Reason.CAP_WEEKLY if len(week) >= _NUDGES_A_WEEK else None


def blocked_by_preferences(
    preferences: Preferences, kind: MessageKind, channel: Channel, overrides: Overrides
) -> Reason | None:
    """The preference that forbids this kind on this channel; None: it is allowed.

    What the recipient chose here overrides the preferences of the dashboard.
    """
    for arguments, terms in ((kind.name, channel), (kind.name, "*"), ("*", channel), ("*", "*")):
        enabled = overrides.get((arguments, str(terms)))
        if enabled is not None:
            everything = Reason.PREF_EMAIL_OFF if channel is Channel.EMAIL else Reason.PREF_CATEGORY_OFF
            return None if enabled else (everything if arguments == "*" else Reason.PREF_CATEGORY_OFF)
    if channel is Channel.EMAIL and preferences.email is False:
        return Reason.PREF_EMAIL_OFF
    kind_preference = preferences.kinds.get(kind.dashboard_preference)
    forbidden = (
        kind_preference is False
        or (preferences.reminders is False and kind.purpose is not Purpose.REPORT)
        or (preferences.in_app is False and channel is Channel.IN_APP)
        or (channel is Channel.EMAIL and not kind.mail_by_default and not kind_preference)
    )
    return Reason.PREF_CATEGORY_OFF if forbidden else None


def earliest_time(
    user: User, kind: MessageKind, history: ContactHistory, at: datetime, expires: datetime, *, late: bool
) -> datetime | Reason:
    """When a message may be sent at or after ``at``: at once, after the quiet hours, or never (QUIET_HOURS).

    A prompt is never postponed. ``late``: a catch-up run; for users without quiet hours of their own it is
    quiet from 21:00 to 08:00 local time.
    """
    quiet = history.quiet or user.preferences.quiet or (_NIGHT if late else None)
    zone = zone_of(user.timezone)
    local = at.astimezone(zone).replace(tzinfo=None)
    if quiet is None or not quiet.contains(local.time()):
        return at
    day = local.date() if local.time() < quiet.end else local.date() + timedelta(days=1)
    end = to_instant(datetime.combine(day, quiet.end), zone)
    if end <= at:  # the clock is set back, and its hour comes a second time
        end = datetime.combine(day, quiet.end, zone).replace(fold=1).astimezone(UTC)
    if end < expires and quiet.contains(end.astimezone(zone).time()):  # the clock skips all that is not quiet
        return earliest_time(user, kind, history, end, expires, late=late)
    return end if end < expires and kind.postponable else Reason.QUIET_HOURS
