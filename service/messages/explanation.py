"""The explanation of a case: each rule with its verdict, the outcome on each channel, and sentences. Pure."""

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
from service.messages.eligibility import ContactHistory, MessageTerms, RuleResult
from service.messages.kind import Channel
from service.messages.reason import Reason
from service.messages.reminder import Reminder
from service.zones import zone_of

Row = Mapping[str, Any]
_UNDECIDED = frozenset({"pending", "running"})
_MESSAGE_RULES = ("budget", "quiet_hours", "once")
_SCHEMA_ERRORS = (SchemaUnknown, DashboardIncomplete)
"""The dashboard answers, but lacks what the job needs."""


class SlotTime(StrEnum):
    """Whether a slot was decided, is due and not decided yet, or is to come."""

    PAST = "past"
    NOW = "now"
    FUTURE = "future"


class RuleVerdict(StrEnum):
    """The verdict of a rule. NOT_REACHED: it applies to a message, and there is none."""

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
    """The rules on one channel. ``at``: when the message goes out (UTC); None: a rule stops it."""

    rules: tuple[RuleAnswer, ...]
    at: datetime | None
    deferred: bool

    @property
    def stop(self) -> RuleAnswer | None:
        """The first rule that stops the message."""
        return next((rule for rule in self.rules if rule.verdict is RuleVerdict.STOPPED), None)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job in the ledger: until when its slots are decided, and its pause."""

    through: datetime | None
    pause: Pause
    paused_by: str | None
    paused_reason: str | None


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """The stored runs, deliveries and decisions of one user and slot."""

    runs: Sequence[Row]
    deliveries: Sequence[Row]
    decisions: Sequence[Row]

    def run_of(self, slot: datetime) -> Row | None:
        """The run of the slot; manual runs have no slot."""
        slot_runs = (row for row in self.runs if row["trigger"] in {Trigger.CRON, Trigger.CATCHUP})
        return next((row for row in slot_runs if row["nominal_at"] == slot), None)


@dataclass(frozen=True, slots=True)
class ExplainedCase:
    """Everything that was read about a user, a job and a moment. Instants are aware, UTC.

    ``day``: the date of ``at`` in ``zone``, the zone of the job's dates. ``slot``: None if the day has none;
    ``following``: the first after ``at``. ``start``: the instant for which the rules are evaluated.
    ``decision``: None if the job does not select this user. ``problem``: why the copy is not fresh.
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
    slot_time: SlotTime
    start: datetime
    definition: StoredJob
    record: SlotRecord
    decision: Decision | None
    terms: MessageTerms | None
    history: ContactHistory
    sent: frozenset[tuple[str, str]]
    problem: SourceUnavailable | SchemaUnknown | JobOff | None

    def local_time(self, at: datetime) -> str:
        """An instant in the user's zone: ``Tue 10 Mar at 09:00 (Europe/Berlin)``."""
        return format_local(at, zone_of(self.user.timezone))


def slot_time_of(slot: datetime, now: datetime, run: Row | None, through: datetime | None) -> SlotTime:
    """``run``: the run of the slot, if any; ``through``: until when slots are decided."""
    if slot > now:
        return SlotTime.FUTURE
    undecided = run["state"] in _UNDECIDED if run else through is not None and through < slot
    return SlotTime.NOW if undecided else SlotTime.PAST


def format_local(at: datetime, zone: ZoneInfo) -> str:
    """An instant in a zone, with the name of the zone."""
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b} at {local:%H:%M} ({zone})"


# ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────


def outcomes(case: ExplainedCase, delays: Mapping[Channel, timedelta]) -> dict[Channel, ChannelOutcome]:
    """The outcome on each channel of the message, or on all channels if there is none.

    All rules are listed, also those after the one that stops it. ``delays``: by how much the message of a
    channel is delayed so that those of a slot are spread.
    """
    message = case.decision if isinstance(case.decision, Message) else None
    channels = message.channels if message else (Channel.EMAIL, Channel.IN_APP)
    return {channel: _outcome(case, message, channel, delays.get(channel)) for channel in channels}


def _outcome(
    case: ExplainedCase, message: Message | None, channel: Channel, delay: timedelta | None
) -> ChannelOutcome:
    results: list[tuple[str, RuleResult]]
    if message is None or case.terms is None:
        results = list(eligibility.contact_rules(case.user, case.job.kind, channel, case.history, case.start))
    else:
        results = list(eligibility.rule_results(message, case.user, channel, case.history, case.terms))
    rules = [*_slot_rules(case, channel), *(_contact_rule(case, name, answer) for name, answer in results)]
    if message is None or case.terms is None:
        rules += [
            RuleAnswer(n, RuleVerdict.NOT_REACHED, detail="There is no message.") for n in _MESSAGE_RULES
        ]
        return ChannelOutcome(tuple(rules), None, deferred=False)
    planned_before = (case.terms.key, str(channel)) in case.sent
    rules.append(_rule("once", Reason.ALREADY_SENT if planned_before else None, message.dedupe_key))
    at = next((answer for _, answer in results if isinstance(answer, datetime)), None)
    if at is None or any(rule.verdict is RuleVerdict.STOPPED for rule in rules):
        return ChannelOutcome(tuple(rules), None, deferred=False)
    return ChannelOutcome(tuple(rules), at + (delay or timedelta(0)), deferred=at > case.start)


def _rule(name: str, reason: str | None, detail: str = "") -> RuleAnswer:
    return RuleAnswer(
        name,
        RuleVerdict.STOPPED if reason else RuleVerdict.PASSED,
        str(reason) if reason else None,
        detail.strip(),
    )


def _slot_rules(case: ExplainedCase, channel: Channel) -> Iterator[RuleAnswer]:
    """The rules that come before those about contacting a user."""
    if case.slot is None:
        yield _rule("slot", "no_slot", no_slot(case))
        yield RuleAnswer("lateness", RuleVerdict.NOT_REACHED, detail="There is no slot.")
        yield RuleAnswer("job_paused", RuleVerdict.NOT_REACHED, detail="There is no slot.")
    else:
        yield _rule("slot", None, f"Due on {case.local_time(case.slot.at)}.")
        yield _lateness_rule(case, case.slot, channel)
        yield _pause_rule(case, case.slot)
    yield _dashboard_rule(case)
    yield _job_rule(case)


def no_slot(case: ExplainedCase) -> str:
    """The sentence that a job is not due on a day, and when it is due next."""
    local = case.following.astimezone(case.zone)
    on = f"{case.day:%A} {case.day.day} {case.day:%B}"
    return f"{case.job.name} has no slot on {on}; the next is {format_local(local, case.zone)}."


def _lateness_rule(case: ExplainedCase, slot: Slot, channel: Channel) -> RuleAnswer:
    """A slot is useful until the limit of its job, a mail until it expires."""
    run = case.record.run_of(slot.at)
    if run and run["state"] == "missed":
        return _rule("lateness", Reason.STALE, f"The run of this slot was missed: {run['reason']}.")
    limit = to_instant(case.job.useful_until(slot.local), case.zone)
    late = case.start > limit
    if case.terms is not None and channel is Channel.EMAIL:
        limit = min(limit, case.terms.expires)
        late = late or case.terms.expires <= case.start
    return _rule("lateness", Reason.STALE if late else None, f"Useful until {case.local_time(limit)}.")


def _pause_rule(case: ExplainedCase, slot: Slot) -> RuleAnswer:
    definition, run = case.definition, case.record.run_of(slot.at)
    if run and (run["state"], run["reason"]) == ("skipped", "paused"):
        return _rule("job_paused", "job_paused", "The slot was skipped while the job was paused.")
    if run or not definition.pause.covers(slot.at):
        return _rule("job_paused", None)
    until = f"until {case.local_time(definition.pause.until)}" if definition.pause.until else "for good"
    why = f": {definition.paused_reason}" if definition.paused_reason else ""
    return _rule("job_paused", "job_paused", f"Paused by {definition.paused_by} {until}{why}.")


def _dashboard_rule(case: ExplainedCase) -> RuleAnswer:
    if isinstance(case.problem, JobOff):
        return _rule("dashboard", Reason.NOT_DUE, str(case.problem))
    if isinstance(case.problem, _SCHEMA_ERRORS):
        return _rule("dashboard", Reason.SCHEMA_UNKNOWN, str(case.problem))
    if case.problem:
        return _rule("dashboard", None, f"Answered from our copy: {case.problem}")
    return _rule("dashboard", None)


def _job_rule(case: ExplainedCase) -> RuleAnswer:
    name = case.job.name
    if case.slot is None:
        return RuleAnswer("job", RuleVerdict.NOT_REACHED, detail="There is no slot.")
    if case.decision is None:
        return _rule("job", Reason.NOT_DUE, f"{name} does not look at this user then.")
    if isinstance(case.decision, Skip):
        return _rule("job", case.decision.reason, case.decision.detail)
    return _rule("job", None, f"{name} has something to say.")


def _contact_rule(case: ExplainedCase, name: str, answer: RuleResult) -> RuleAnswer:
    if isinstance(answer, datetime):
        return _rule(name, None, f"It may go out on {case.local_time(answer)}.")
    until = case.history.paused_until
    detail = f"Until {case.local_time(until)}." if answer is Reason.PAUSED_UNTIL and until else ""
    return _rule(name, answer, detail)


# ── In words ────────────────────────────────────────────────────────────────────────────────────────────────

_SUBJECTS = {Channel.EMAIL: "The mail", Channel.IN_APP: "The notification"}
_STATE_PHRASES = {
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


def conclusion(case: ExplainedCase, outcomes: Mapping[Channel, ChannelOutcome]) -> str:
    """What happened on each channel, or else what would happen; records take precedence over rules."""
    record = case.record
    if record.deliveries:
        return " ".join(_recorded_sentences(case))
    skipped = _skip_sentence(record.decisions[-1]) if record.decisions else None
    if case.slot_time is SlotTime.PAST:
        return skipped or _past_sentence(case, outcomes)
    return " ".join(
        part for part in (skipped, _forecast_sentence(case, outcomes), _stale_copy_sentence(case)) if part
    )


def _stale_copy_sentence(case: ExplainedCase) -> str | None:
    unreachable = case.problem and not isinstance(case.problem, (*_SCHEMA_ERRORS, JobOff))
    return "The dashboard does not answer now: this is told from our copy." if unreachable else None


def _recorded_sentences(case: ExplainedCase) -> Iterator[str]:
    """The last message on each channel, and why its run sent none on the others."""
    last = {Channel(row["channel"]): row for row in case.record.deliveries}
    for channel in Channel:
        if channel in last:
            yield _delivery_sentence(case, channel, last[channel])
            if any(_was_superseded(row, channel) for row in case.record.deliveries):
                yield "It took the place of one that was superseded."
    runs = {row["run_id"] for row in last.values()}
    for row in case.record.decisions:
        if row["run_id"] in runs:
            yield f"{row['detail'].rstrip('.') or 'Otherwise nothing was sent'}: {row['reason']}."


def _was_superseded(row: Row, channel: Channel) -> bool:
    return (row["channel"], row["reason"]) == (channel, Reason.SUPERSEDED)


def _delivery_sentence(case: ExplainedCase, channel: Channel, row: Row) -> str:
    if channel is Channel.IN_APP and row["state"] == "sent":
        tense = "will be" if row["not_before"] > case.now else "was"
        return f"{_SUBJECTS[channel]} {tense} shown from {case.local_time(row['not_before'])}."
    at = row["settled_at"] or row["dot_at"]
    if row["state"] in _STATE_PHRASES:
        date = f" on {case.local_time(at)}" if at else ""
        why = f" {row['detail']}" if row["state"] == DeliveryState.SKIPPED and row["detail"] else ""
        return f"{_SUBJECTS[channel]} {_STATE_PHRASES[row['state']]}{date}{_because(row['reason'])}.{why}"
    due = case.local_time(row["not_before"])
    return f"{_SUBJECTS[channel]} is {row['state']}, due on {due}{_because(row['reason'])}."


def _skip_sentence(row: Row) -> str:
    return f"Nothing was sent{_because(row['reason'])}. {row['detail']}".strip()


def _past_sentence(case: ExplainedCase, outcomes: Mapping[Channel, ChannelOutcome]) -> str:
    """A past slot for which nothing is stored about this user."""
    if case.slot is None:
        return no_slot(case)
    slot = case.local_time(case.slot.at)
    run = case.record.run_of(case.slot.at) or (case.record.runs[-1] if case.record.runs else None)
    if run is None:
        return f"Nothing is recorded for the slot on {slot}: no run of it was for this user."
    if run["state"] not in {"succeeded", "partial"}:
        how = {"missed": "was missed", "skipped": "was skipped", "cancelled": "was cancelled", "dead": "died"}
        return (
            f"The run of the slot on {slot} {how.get(run['state'], run['state'])}{_because(run['reason'])}."
        )
    sentence = f"The run of the slot on {slot} did not choose this user."
    stop = next((outcome.stop for outcome in outcomes.values() if outcome.stop), None)
    return f"{sentence} As things stand now: {_stop_sentence(stop)}" if stop else sentence


def _forecast_sentence(case: ExplainedCase, outcomes: Mapping[Channel, ChannelOutcome]) -> str:
    if case.slot is None:
        return no_slot(case)
    allowed = {channel: outcome for channel, outcome in outcomes.items() if outcome.at is not None}
    stops = {channel: outcome.stop for channel, outcome in outcomes.items() if outcome.stop}
    if not allowed:
        return f"It would not be sent: {_stops_sentence(stops)}"
    parts = [
        _time_and_channels(case, at, allowed)
        for at in sorted({outcome.at for outcome in allowed.values() if outcome.at})
    ]
    exceptions = "".join(f" Not on {channel}: {_stop_sentence(stop)}" for channel, stop in stops.items())
    return f"It would go out on {', on '.join(parts)}.{exceptions}"


def _time_and_channels(case: ExplainedCase, at: datetime, allowed: Mapping[Channel, ChannelOutcome]) -> str:
    channels = [channel for channel, outcome in allowed.items() if outcome.at == at]
    quiet = " (after quiet hours)" if allowed[channels[0]].deferred else ""
    return f"{case.local_time(at)} on {' and '.join(channels)}{quiet}"


def _stops_sentence(stops: Mapping[Channel, RuleAnswer]) -> str:
    """The first stop on each channel; once where it is the same."""
    different = {(stop.name, stop.reason) for stop in stops.values()}
    if len(different) == 1:
        return _stop_sentence(next(iter(stops.values())))
    return ", ".join(f"{stop.reason} on {channel}" for channel, stop in stops.items()) + "."


def _stop_sentence(stop: RuleAnswer) -> str:
    return f"{stop.reason}. {stop.detail}".strip()


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
