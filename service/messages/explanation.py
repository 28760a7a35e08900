"""What explain says, from what it read: every rule with its verdict, the outcome on each channel, and all in
words. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from service.dashboard.model import User
from service.engine.run import Pause, Trigger
from service.engine.schedule import Slot, to_instant
from service.errors import DashboardIncomplete, JobOff, SchemaUnknown, SourceUnavailable
from service.messages import eligibility
from service.messages.decision import Decision, Message, Skip
from service.messages.delivery_state import DeliveryState
from service.messages.eligibility import Answer, ContactHistory, MessageTerms
from service.messages.kind import Channel
from service.messages.reason import Reason
from service.messages.reminder import Reminder
from service.zones import zone_of

Row = Mapping[str, Any]
_UNDECIDED = frozenset({"pending", "running"})
_OF_A_MESSAGE = ("budget", "quiet_hours", "once")
_MISFITS = (SchemaUnknown, DashboardIncomplete)
"""The dashboard answers, but what the job rests on is not there."""


class SlotTime(StrEnum):
    """Where a slot lies: decided, due and not decided yet, or to come."""

    PAST = "past"
    NOW = "now"
    FUTURE = "future"


class RuleVerdict(StrEnum):
    """What a rule says. NOT_REACHED: it is about a message, and there is none."""

    PASSED = "passed"
    STOPPED = "stopped"
    NOT_REACHED = "not_reached"


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """One rule's verdict, the reason by which it stops the message, and one sentence."""

    name: str
    verdict: RuleVerdict
    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChannelOutcome:
    """What the rules come to on one channel: when the message goes out (UTC), or the first that stops it."""

    rules: tuple[RuleAnswer, ...]
    at: datetime | None
    deferred: bool

    @property
    def stop(self) -> RuleAnswer | None:
        """The first rule that stops it."""
        return next((rule for rule in self.rules if rule.verdict is RuleVerdict.STOPPED), None)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """What the ledger holds of a job: until when its slots are decided, and its pause."""

    through: datetime | None
    pause: Pause
    paused_by: str | None
    paused_reason: str | None


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What the ledger holds of one user and slot."""

    runs: Sequence[Row]
    deliveries: Sequence[Row]
    decisions: Sequence[Row]

    def run_of(self, slot: datetime) -> Row | None:
        """The run that the slot brought about; manual ones have no slot."""
        own = (row for row in self.runs if row["trigger"] in {Trigger.CRON, Trigger.CATCHUP})
        return next((row for row in own if row["nominal_at"] == slot), None)


@dataclass(frozen=True, slots=True)
class ExplainedCase:
    """Everything that was read about a user, a job and a moment. Instants are aware, UTC.

    ``day`` is the date of ``at`` by ``zone``, the clock of the job's dates. ``slot``: None where the day has
    none; ``following``: the first after ``at``. ``start``: the instant of which the rules are asked.
    ``decision``: None where the job does not look at this user. ``trouble``: why the copy is not fresh.
    """

    job: Reminder
    user: User
    at: datetime
    now: datetime
    day: date
    zone: ZoneInfo
    group: str
    slot: Slot | None
    following: datetime
    when: SlotTime
    start: datetime
    definition: StoredJob
    record: SlotRecord
    decision: Decision | None
    terms: MessageTerms | None
    known: ContactHistory
    sent: frozenset[tuple[str, str]]
    trouble: SourceUnavailable | SchemaUnknown | JobOff | None

    def said(self, at: datetime) -> str:
        """An instant by the user's clock: ``Tue 10 Mar at 09:00 (Europe/Berlin)``."""
        return worded(at, zone_of(self.user.timezone))


def when_is(slot: datetime, now: datetime, run: Row | None, through: datetime | None) -> SlotTime:
    """Where a slot lies. ``run``: what it brought about; ``through``: up to where slots are decided."""
    if slot > now:
        return SlotTime.FUTURE
    undecided = run["state"] in _UNDECIDED if run else through is not None and through < slot
    return SlotTime.NOW if undecided else SlotTime.PAST


def worded(at: datetime, zone: ZoneInfo) -> str:
    """An instant by a clock, with its zone."""
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b} at {local:%H:%M} ({zone})"


# ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────


def outcomes(case: ExplainedCase, share: Mapping[Channel, timedelta]) -> dict[Channel, ChannelOutcome]:
    """Each channel of the message (of a mail, where there is none) with every rule, also behind a stop.

    ``share``: by how much the message of a channel is put off so that those of a slot are spread.
    """
    message = case.decision if isinstance(case.decision, Message) else None
    channels = message.channels if message else (Channel.EMAIL, Channel.IN_APP)
    return {channel: _outcome(case, message, channel, share.get(channel)) for channel in channels}


def _outcome(
    case: ExplainedCase, message: Message | None, channel: Channel, share: timedelta | None
) -> ChannelOutcome:
    asked: list[tuple[str, Answer]]
    if message is None or case.terms is None:
        asked = list(eligibility.rules(case.user, case.job.kind, channel, case.known, case.start))
    else:
        asked = list(eligibility.answers(message, case.user, channel, case.known, case.terms))
    rules = [*_of_the_slot(case, channel), *(_contact_rule(case, name, answer) for name, answer in asked)]
    if message is None or case.terms is None:
        rules += [
            RuleAnswer(n, RuleVerdict.NOT_REACHED, detail="There is no message.") for n in _OF_A_MESSAGE
        ]
        return ChannelOutcome(tuple(rules), None, deferred=False)
    known = (case.terms.key, str(channel)) in case.sent
    rules.append(_rule("once", Reason.ALREADY_SENT if known else None, message.dedupe_key))
    at = next((answer for _, answer in asked if isinstance(answer, datetime)), None)
    if at is None or any(rule.verdict is RuleVerdict.STOPPED for rule in rules):
        return ChannelOutcome(tuple(rules), None, deferred=False)
    return ChannelOutcome(tuple(rules), at + (share or timedelta(0)), deferred=at > case.start)


def _rule(name: str, reason: str | None, detail: str = "") -> RuleAnswer:
    return RuleAnswer(
        name,
        RuleVerdict.STOPPED if reason else RuleVerdict.PASSED,
        str(reason) if reason else None,
        detail.strip(),
    )


def _of_the_slot(case: ExplainedCase, channel: Channel) -> Iterator[RuleAnswer]:
    """What comes before all that is about contacting somebody."""
    if case.slot is None:
        yield _rule("slot", "no_slot", no_slot(case))
        yield RuleAnswer("lateness", RuleVerdict.NOT_REACHED, detail="There is no slot.")
        yield RuleAnswer("job_paused", RuleVerdict.NOT_REACHED, detail="There is no slot.")
    else:
        yield _rule("slot", None, f"Due on {case.said(case.slot.at)}.")
        yield _lateness(case, case.slot, channel)
        yield _paused(case, case.slot)
    yield _dashboard(case)
    yield _of_the_job(case)


def no_slot(case: ExplainedCase) -> str:
    """That a job is not due on a day, and when it is."""
    local = case.following.astimezone(case.zone)
    on = f"{case.day:%A} {case.day.day} {case.day:%B}"
    return f"{case.job.name} has no slot on {on}; the next is {worded(local, case.zone)}."


def _lateness(case: ExplainedCase, slot: Slot, channel: Channel) -> RuleAnswer:
    """A slot is useful until its job's limit; a mail until it expires."""
    run = case.record.run_of(slot.at)
    if run and run["state"] == "missed":
        return _rule("lateness", Reason.STALE, f"The run of this slot was missed: {run['reason']}.")
    limit = to_instant(case.job.useful_until(slot.local), case.zone)
    late = case.start > limit
    if case.terms is not None and channel is Channel.EMAIL:
        limit = min(limit, case.terms.expires)
        late = late or case.terms.expires <= case.start
    return _rule("lateness", Reason.STALE if late else None, f"Useful until {case.said(limit)}.")


def _paused(case: ExplainedCase, slot: Slot) -> RuleAnswer:
    found, run = case.definition, case.record.run_of(slot.at)
    if run and (run["state"], run["reason"]) == ("skipped", "paused"):
        return _rule("job_paused", "job_paused", "The slot was skipped while the job was paused.")
    if run or not found.pause.covers(slot.at):
        return _rule("job_paused", None)
    until = f"until {case.said(found.pause.until)}" if found.pause.until else "for good"
    why = f": {found.paused_reason}" if found.paused_reason else ""
    return _rule("job_paused", "job_paused", f"Paused by {found.paused_by} {until}{why}.")


def _dashboard(case: ExplainedCase) -> RuleAnswer:
    if isinstance(case.trouble, JobOff):
        return _rule("dashboard", Reason.NOT_DUE, str(case.trouble))
    if isinstance(case.trouble, _MISFITS):
        return _rule("dashboard", Reason.SCHEMA_UNKNOWN, str(case.trouble))
    if case.trouble:
        return _rule("dashboard", None, f"Answered from our copy: {case.trouble}")
    return _rule("dashboard", None)


def _of_the_job(case: ExplainedCase) -> RuleAnswer:
    name = case.job.name
    if case.slot is None:
        return RuleAnswer("job", RuleVerdict.NOT_REACHED, detail="There is no slot.")
    if case.decision is None:
        return _rule("job", Reason.NOT_DUE, f"{name} does not look at this user then.")
    if isinstance(case.decision, Skip):
        return _rule("job", case.decision.reason, case.decision.detail)
    return _rule("job", None, f"{name} has something to say.")


def _contact_rule(case: ExplainedCase, name: str, answer: Answer) -> RuleAnswer:
    if isinstance(answer, datetime):
        return _rule(name, None, f"It may go out on {case.said(answer)}.")
    until = case.known.paused_until
    detail = f"Until {case.said(until)}." if answer is Reason.PAUSED_UNTIL and until else ""
    return _rule(name, answer, detail)


# ── In words ────────────────────────────────────────────────────────────────────────────────────────────────

_WHAT = {Channel.EMAIL: "The mail", Channel.IN_APP: "The notification"}
_SETTLED = {
    DeliveryState.SENT: "was sent",
    DeliveryState.FAILED: "failed",
    DeliveryState.UNCONFIRMED: "may have been sent, nobody confirmed it,",
    DeliveryState.SKIPPED: "was not sent",
    DeliveryState.MISSED: "was missed",
    DeliveryState.EXPIRED: "expired",
    DeliveryState.CANCELLED: "was cancelled",
    DeliveryState.BOUNCED: "was sent and came back",
    DeliveryState.COMPLAINED: "was sent and complained about",
}


def conclusion(case: ExplainedCase, found: Mapping[Channel, ChannelOutcome]) -> str:
    """What became of it on each channel, else what would. Recorded facts come before rules."""
    record = case.record
    if record.deliveries:
        return " ".join(_recorded(case))
    told = _nothing(record.decisions[-1]) if record.decisions else None
    if case.when is SlotTime.PAST:
        return told or _past(case, found)
    return " ".join(part for part in (told, _forecast(case, found), _copy(case)) if part)


def _copy(case: ExplainedCase) -> str | None:
    away = case.trouble and not isinstance(case.trouble, (*_MISFITS, JobOff))
    return "The dashboard does not answer now: this is told from our copy." if away else None


def _recorded(case: ExplainedCase) -> Iterator[str]:
    """The last message on each channel, and what its run said of the others."""
    last = {Channel(row["channel"]): row for row in case.record.deliveries}
    for channel in Channel:
        if channel in last:
            yield _delivered(case, channel, last[channel])
    runs = {row["run_id"] for row in last.values()}
    for row in case.record.decisions:
        if row["run_id"] in runs:
            yield f"{row['detail'].rstrip('.') or 'Otherwise nothing was sent'}: {row['reason']}."


def _delivered(case: ExplainedCase, channel: Channel, row: Row) -> str:
    if channel is Channel.IN_APP and row["state"] == "sent":
        tense = "will be" if row["not_before"] > case.now else "was"
        return f"{_WHAT[channel]} {tense} shown from {case.said(row['not_before'])}."
    at = row["settled_at"] or row["dot_at"]
    if row["state"] in _SETTLED:
        on = f" on {case.said(at)}" if at else ""
        return f"{_WHAT[channel]} {_SETTLED[row['state']]}{on}{_because(row['reason'])}."
    return (
        f"{_WHAT[channel]} is {row['state']}, due on {case.said(row['not_before'])}{_because(row['reason'])}."
    )


def _nothing(row: Row) -> str:
    return f"Nothing was sent{_because(row['reason'])}. {row['detail']}".strip()


def _past(case: ExplainedCase, found: Mapping[Channel, ChannelOutcome]) -> str:
    """A slot that has passed without a word about this user."""
    if case.slot is None:
        return no_slot(case)
    slot = case.said(case.slot.at)
    run = case.record.run_of(case.slot.at) or (case.record.runs[-1] if case.record.runs else None)
    if run is None:
        return f"Nothing is recorded for the slot on {slot}: no run of it was for this user."
    if run["state"] not in {"succeeded", "partial"}:
        how = {"missed": "was missed", "skipped": "was skipped", "cancelled": "was cancelled", "dead": "died"}
        return (
            f"The run of the slot on {slot} {how.get(run['state'], run['state'])}{_because(run['reason'])}."
        )
    chosen = f"The run of the slot on {slot} did not choose this user."
    stop = next((one.stop for one in found.values() if one.stop), None)
    return f"{chosen} As things stand now: {_stopped(stop)}" if stop else chosen


def _forecast(case: ExplainedCase, found: Mapping[Channel, ChannelOutcome]) -> str:
    if case.slot is None:
        return no_slot(case)
    free = {channel: one for channel, one in found.items() if one.at is not None}
    stops = {channel: one.stop for channel, one in found.items() if one.stop}
    if not free:
        return f"It would not be sent: {_stops(stops)}"
    parts = [_goes(case, at, free) for at in sorted({one.at for one in free.values() if one.at})]
    no = "".join(f" Not on {channel}: {_stopped(stop)}" for channel, stop in stops.items())
    return f"It would go out on {', on '.join(parts)}.{no}"


def _goes(case: ExplainedCase, at: datetime, free: Mapping[Channel, ChannelOutcome]) -> str:
    channels = [channel for channel, one in free.items() if one.at == at]
    quiet = " (after quiet hours)" if free[channels[0]].deferred else ""
    return f"{case.said(at)} on {' and '.join(channels)}{quiet}"


def _stops(stops: Mapping[Channel, RuleAnswer]) -> str:
    """The first stop on each channel; once where it is the same."""
    different = {(stop.name, stop.reason) for stop in stops.values()}
    if len(different) == 1:
        return _stopped(next(iter(stops.values())))
    return ", ".join(f"{stop.reason} on {channel}" for channel, stop in stops.items()) + "."


def _stopped(stop: RuleAnswer) -> str:
    return f"{stop.reason}. {stop.detail}".strip()


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
