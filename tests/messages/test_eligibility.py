"""Whether and when somebody may be contacted: the order of the rules, the budget, and the night."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.dashboard.model import Preferences, QuietHours, User
from service.messages.eligibility import ContactHistory, PastMessage, budget, contact_refusal, earliest_time
from service.messages.kind import Channel, MessageKind
from service.messages.reason import Reason
from tests.given import user
from tests.kinds import BREAKS, DAILY, DEADLINES, INACTIVE, KINDS, MONTHLY, NUDGES, WEEKLY

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TODAY = date(2026, 3, 10)
HOUR = timedelta(hours=1)
MAIL, APP = Channel.EMAIL, Channel.IN_APP
REMINDERS = (DEADLINES, DAILY, INACTIVE, BREAKS)
REPORTS = (WEEKLY, MONTHLY)

kinds = st.sampled_from(list(KINDS.values()))
channels = st.sampled_from(Channel)
both = pytest.mark.parametrize("channel", Channel)


def allowing(**wishes: Any) -> User:
    """Ann, with these wishes at the dashboard."""
    return user(preferences=Preferences(**wishes))


def asked(who: User, kind: MessageKind = WEEKLY, channel: Channel = MAIL, **known: Any) -> Reason | None:
    return contact_refusal(who, kind, channel, ContactHistory(**known), NOON)


# ── What the dashboard says ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
@both
def test_where_the_dashboard_is_silent_everything_may_come_except_breaks_by_mail(
    kind: MessageKind, channel: Channel
) -> None:
    forbidden = kind is BREAKS and channel is MAIL

    assert asked(user(), kind, channel) == (Reason.PREF_CATEGORY_OFF if forbidden else None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_no_mail_means_no_mail_of_any_kind_and_leaves_the_dashboards_own_inbox(kind: MessageKind) -> None:
    assert asked(allowing(email=False), kind, MAIL) is Reason.PREF_EMAIL_OFF
    assert asked(allowing(email=False), kind, APP) is None


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
@both
def test_no_reminders_means_none_of_the_four_and_leaves_the_reports(
    kind: MessageKind, channel: Channel
) -> None:
    found = asked(allowing(reminders=False, kinds={BREAKS.name: True}), kind, channel)

    assert found == (Reason.PREF_CATEGORY_OFF if kind in REMINDERS else None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
@pytest.mark.parametrize("refused", KINDS.values(), ids=str)
@both
def test_a_key_of_its_own_stops_its_kind_and_no_other(
    kind: MessageKind, refused: MessageKind, channel: Channel
) -> None:
    found = asked(allowing(kinds={BREAKS.name: True} | {refused.name: False}), kind, channel)

    assert found == (Reason.PREF_CATEGORY_OFF if kind is refused else None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_no_notifications_means_none_and_leaves_the_mails(kind: MessageKind) -> None:
    wishes = allowing(in_app=False, kinds={BREAKS.name: True})

    assert asked(wishes, kind, APP) is Reason.PREF_CATEGORY_OFF
    assert asked(wishes, kind, MAIL) is None


@pytest.mark.parametrize(
    ("wishes", "mail"),
    [
        ({}, False),
        ({"email": True}, False),
        ({"email": True, "reminders": True}, False),
        ({"kinds": {BREAKS.name: False}}, False),
        ({"kinds": {DAILY.name: True}}, False),
        ({"kinds": {BREAKS.name: True}}, True),
        ({"kinds": {BREAKS.name: True}, "reminders": False}, False),
        ({"kinds": {BREAKS.name: True}, "email": False}, False),
    ],
)
def test_a_break_comes_by_mail_only_to_whom_asked_for_it(wishes: dict[str, Any], mail: bool) -> None:
    assert (asked(allowing(**wishes), BREAKS, MAIL) is None) == mail


@given(
    kinds,
    channels,
    st.builds(
        Preferences,
        email=st.none() | st.booleans(),
        reminders=st.none() | st.booleans(),
        in_app=st.none() | st.booleans(),
        kinds=st.dictionaries(st.sampled_from(list(KINDS)), st.booleans()),
    ),
)
def test_any_block_blocks(kind: MessageKind, channel: Channel, wishes: Preferences) -> None:
    blocks = {
        wishes.email is False and channel is MAIL: Reason.PREF_EMAIL_OFF,
        wishes.in_app is False and channel is APP: Reason.PREF_CATEGORY_OFF,
        wishes.reminders is False and kind in REMINDERS: Reason.PREF_CATEGORY_OFF,
        wishes.kinds.get(kind.name) is False: Reason.PREF_CATEGORY_OFF,
        (kind, channel) == (BREAKS, MAIL) and kind.name not in wishes.kinds: Reason.PREF_CATEGORY_OFF,
    }

    found = asked(user(preferences=wishes), kind, channel)

    assert (found is not None) == any(blocks)
    assert (found is Reason.PREF_EMAIL_OFF) == (wishes.email is False and channel is MAIL)


# ── What the recipient told this service ────────────────────────────────────────────────────────────────────

STARS = [(kind, channel) for kind in ("daily", "*") for channel in ("email", "*")]
NOTHING = Preferences(email=False, reminders=False, in_app=False, kinds=dict.fromkeys(KINDS, False))


@pytest.mark.parametrize("key", STARS)
def test_an_own_no_wins_over_a_yes_at_the_dashboard(key: tuple[str, str]) -> None:
    willing = allowing(email=True, reminders=True, kinds={DAILY.name: True})
    everything = key[0] == "*"

    found = asked(willing, DAILY, overrides={key: False})

    assert found is (Reason.PREF_EMAIL_OFF if everything else Reason.PREF_CATEGORY_OFF)


@pytest.mark.parametrize("key", STARS)
def test_an_own_yes_wins_over_a_no_at_the_dashboard(key: tuple[str, str]) -> None:
    unwilling = user(preferences=NOTHING)

    assert asked(unwilling, DAILY) is Reason.PREF_EMAIL_OFF
    assert asked(unwilling, DAILY, overrides={key: True}) is None


@given(kinds, channels, st.data())
def test_the_closest_own_word_is_the_one_that_holds(
    kind: MessageKind, channel: Channel, data: st.DataObject
) -> None:
    keys = st.tuples(st.sampled_from([*KINDS, "*"]), st.sampled_from([*map(str, Channel), "*"]))
    words = data.draw(st.dictionaries(keys, st.booleans()))
    closeness = {
        key: (key[0] != "*") * 2 + (key[1] != "*")
        for key in words
        if key[0] in (kind.name, "*") and key[1] in (channel, "*")
    }

    for wishes in (Preferences(), NOTHING):
        found = asked(user(preferences=wishes), kind, channel, overrides=words)

        if closeness:
            assert (found is None) == words[max(closeness, key=lambda key: closeness[key])]
        else:
            assert found == asked(user(preferences=wishes), kind, channel)


def test_breaks_come_by_mail_when_they_were_asked_for_here() -> None:
    assert asked(user(), BREAKS, overrides={("breaks", "email"): True}) is None
    assert asked(user(), BREAKS, overrides={("daily", "email"): True}) is Reason.PREF_CATEGORY_OFF


# ── The order of the rules ──────────────────────────────────────────────────────────────────────────────────

_AGAINST: list[tuple[Reason, dict[str, Any], dict[str, Any]]] = [
    (Reason.INACTIVE_ACCOUNT, {"active": False}, {}),
    (Reason.NO_EMAIL, {"email": None}, {}),
    (Reason.PREF_CATEGORY_OFF, {"preferences": Preferences(kinds={WEEKLY.name: False})}, {}),
    (Reason.PAUSED_UNTIL, {}, {"paused_until": NOON + HOUR}),
    (Reason.SUPPRESSED_ADDRESS, {}, {"suppressed": True}),
]


@given(st.sets(st.integers(0, len(_AGAINST) - 1)))
def test_the_first_rule_that_forbids_it_is_named(broken: set[int]) -> None:
    who, known = user(), ContactHistory()
    for n in broken:
        _, of_user, of_known = _AGAINST[n]
        who, known = replace(who, **of_user), replace(known, **of_known)

    found = contact_refusal(who, WEEKLY, MAIL, known, NOON)

    assert found is (_AGAINST[min(broken)][0] if broken else None)


@pytest.mark.parametrize("email", [None, "", "ann", "ann@", "ann@host", "ann@example.org\r\nBcc: all@x.org"])
def test_without_an_address_there_is_no_mail_but_notifications(email: str | None) -> None:
    who = user(email=email)

    for overrides in ({}, {("*", "*"): True}):
        assert asked(who, channel=MAIL, overrides=overrides) is Reason.NO_EMAIL
        assert asked(who, channel=Channel.IN_APP, overrides=overrides) is None


@both
def test_an_own_yes_opens_no_closed_account_and_ends_no_pause(channel: Channel) -> None:
    yes = {("*", "*"): True}

    assert asked(user(active=False), channel=channel, overrides=yes) is Reason.INACTIVE_ACCOUNT
    later = NOON + HOUR
    assert asked(user(), channel=channel, overrides=yes, paused_until=later) is Reason.PAUSED_UNTIL


@pytest.mark.parametrize(("until", "silent"), [(-1, False), (0, False), (1, True)])
@both
def test_a_pause_holds_until_its_instant(until: int, silent: bool, channel: Channel) -> None:
    found = asked(user(), channel=channel, paused_until=NOON + timedelta(seconds=until))

    assert found is (Reason.PAUSED_UNTIL if silent else None)


def test_a_suppressed_address_still_leaves_the_dashboards_own_inbox() -> None:
    assert asked(user(), channel=MAIL, suppressed=True) is Reason.SUPPRESSED_ADDRESS
    assert asked(user(), channel=APP, suppressed=True) is None


# ── The budget ──────────────────────────────────────────────────────────────────────────────────────────────


def past(kind: MessageKind, days_ago: int = 0, channel: Channel = MAIL, key: str = "another") -> PastMessage:
    return PastMessage(str(kind), str(channel), TODAY - timedelta(days=days_ago), key)


def one_more(kind: MessageKind, *before: PastMessage, channel: Channel = MAIL) -> Reason | None:
    return budget(kind, channel, TODAY, "this", before, NUDGES)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ([], None),
        ([past(DAILY)], Reason.CAP_DAILY),
        ([past(INACTIVE)], Reason.CAP_DAILY),
        ([past(INACTIVE, channel=APP)], None),
        ([past(DAILY, key="this")], None),
        (
            [
                past(DEADLINES),
                past(WEEKLY),
                past(MONTHLY),
                past(BREAKS),
            ],
            None,
        ),
        ([past(DAILY, 1), past(INACTIVE, 2)], None),
        ([past(DAILY, 1), past(INACTIVE, 2), past(DAILY, 6)], Reason.CAP_WEEKLY),
        ([past(DAILY, 1), past(INACTIVE, 2), past(DAILY, 7)], None),
        ([past(DAILY, 1), past(INACTIVE, 2), past(WEEKLY, 3)], None),
        ([past(DAILY, 1), past(INACTIVE, 2), past(DAILY, 3, APP)], None),
        ([past(DAILY, 1), past(INACTIVE, 2), past(DAILY, 3, key="this")], None),
        ([past(DAILY), past(DAILY, 1), past(INACTIVE, 2), past(DAILY, 3)], Reason.CAP_DAILY),
    ],
)
def test_one_nudge_a_day_and_three_in_seven_days_all_together(
    before: list[PastMessage], said: Reason | None
) -> None:
    assert one_more(DAILY, *before) is said


@pytest.mark.parametrize("kind", [DEADLINES, *REPORTS])
def test_reports_and_deadlines_are_never_too_many(kind: MessageKind) -> None:
    many = [past(one, n) for n in range(7) for one in KINDS.values()]

    assert one_more(kind, *many) is None


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ([], None),
        ([past(BREAKS)], None),
        ([past(BREAKS)] * 2, Reason.CAP_DAILY),
        ([past(BREAKS), past(BREAKS, key="this")], None),
        ([past(BREAKS, channel=APP)] * 9, None),
        ([past(BREAKS, 1)] * 9, None),
        ([past(DAILY)] * 9, None),
    ],
)
def test_two_breaks_a_day_by_mail(before: list[PastMessage], said: Reason | None) -> None:
    assert one_more(BREAKS, *before) is said


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_one_notification_of_a_kind_a_day_breaks_apart(kind: MessageKind) -> None:
    said = None if kind is BREAKS else Reason.CAP_DAILY

    assert one_more(kind, *[past(kind, channel=APP)] * 5, channel=APP) is said
    assert one_more(kind, past(kind, channel=APP, key="this"), channel=APP) is None
    assert one_more(kind, past(kind, 1, APP), past(kind, 0, MAIL), channel=APP) is None
    others = [past(other, channel=APP) for other in KINDS.values() if other is not kind]
    assert one_more(kind, *others, channel=APP) is None


pasts = st.lists(
    st.builds(past, kinds, st.integers(-2, 9), channels, st.sampled_from(["this", "a", "b", "c", "d", "e"])),
    max_size=12,
)


@given(kinds, channels, pasts)
def test_the_budget_is_counted_as_somebody_would_who_got_it_all(
    kind: MessageKind, channel: Channel, before: list[PastMessage]
) -> None:
    got = [one for one in before if one.dedupe_key != "this" and one.channel == str(channel)]
    today = [one.kind for one in got if one.local_date == TODAY]
    near = [one.kind for one in got if -7 < (one.local_date - TODAY).days < 7]
    nudges = {str(DAILY), str(INACTIVE)}
    if channel is APP:
        full = kind is not BREAKS and str(kind) in today
    elif kind.name in NUDGES:
        full = not nudges.isdisjoint(today) or sum(one in nudges for one in near) >= 3
    else:
        full = kind is BREAKS and today.count(str(kind)) >= 2

    assert (one_more(kind, *before, channel=channel) is not None) == full


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([DAILY, INACTIVE])), max_size=40))
def test_whoever_keeps_to_the_budget_gets_one_a_day_and_three_in_any_seven_days(
    wanted: Sequence[tuple[int, MessageKind]],
) -> None:
    got: list[PastMessage] = []
    for n, (offset, kind) in enumerate(wanted):
        day = TODAY + timedelta(days=offset)
        if budget(kind, MAIL, day, str(n), got, NUDGES) is None:
            got.append(PastMessage(str(kind), str(MAIL), day, str(n)))

    days = [one.local_date for one in got]
    assert len(days) == len(set(days))
    for first in days:
        assert sum(first <= day < first + timedelta(days=7) for day in days) <= 3


# ── Quiet hours ─────────────────────────────────────────────────────────────────────────────────────────────

LATER = datetime(2027, 1, 1, tzinfo=UTC)
clock_times = st.times().map(lambda at: at.replace(second=0, microsecond=0))


def when(
    at: str | datetime,
    quiet: tuple[str, str] | None = ("22:00", "08:00"),
    *,
    zone: str = "Europe/Berlin",
    kind: MessageKind = WEEKLY,
    expires: datetime = LATER,
    late: bool = False,
    here: tuple[str, str] | None = None,
) -> datetime | Reason:
    """When something decided at an instant may go out, for somebody with quiet hours (here: chosen here)."""
    who = user(zone=zone, preferences=Preferences(quiet=hours(quiet)))
    instant = datetime.fromisoformat(at) if isinstance(at, str) else at
    return earliest_time(who, kind, ContactHistory(quiet=hours(here)), instant, expires, late=late)


def hours(span: tuple[str, str] | None) -> QuietHours | None:
    return QuietHours(*map(time.fromisoformat, span)) if span else None


@pytest.mark.parametrize(
    ("local", "quiet", "until"),
    [
        ("21:59", ("22:00", "08:00"), None),
        ("22:00", ("22:00", "08:00"), "11T08:00"),
        ("23:59", ("22:00", "08:00"), "11T08:00"),
        ("00:00", ("22:00", "08:00"), "10T08:00"),
        ("07:59", ("22:00", "08:00"), "10T08:00"),
        ("08:00", ("22:00", "08:00"), None),
        ("11:59", ("12:00", "14:00"), None),
        ("12:00", ("12:00", "14:00"), "10T14:00"),
        ("13:59", ("12:00", "14:00"), "10T14:00"),
        ("14:00", ("12:00", "14:00"), None),
        ("22:00", ("22:00", "00:00"), "11T00:00"),
        ("00:00", ("22:00", "00:00"), None),
        ("00:00", ("00:00", "06:00"), "10T06:00"),
        ("12:00", ("09:00", "09:00"), None),
        ("09:00", ("09:00", "09:00"), None),
    ],
)
def test_quiet_hours_begin_with_their_start_and_are_over_at_their_end(
    local: str, quiet: tuple[str, str], until: str | None
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    at = datetime.combine(TODAY, time.fromisoformat(local), berlin)
    end = datetime.fromisoformat(f"2026-03-{until}").replace(tzinfo=berlin) if until else at

    assert when(at, quiet) == end


@pytest.mark.parametrize(
    ("zone", "at", "quiet", "until"),
    [
        ("Europe/Berlin", "2026-03-28T22:00Z", ("22:00", "08:00"), "2026-03-29T06:00Z"),
        ("Europe/Berlin", "2026-10-24T21:00Z", ("22:00", "08:00"), "2026-10-25T07:00Z"),
        ("Europe/Berlin", "2026-03-29T00:30Z", ("22:00", "02:30"), "2026-03-29T01:30Z"),  # no 02:30 that day
        ("Europe/Berlin", "2026-10-24T23:30Z", ("22:00", "02:30"), "2026-10-25T00:30Z"),  # the first 02:30
        ("America/New_York", "2026-03-08T04:00Z", ("21:00", "07:00"), "2026-03-08T11:00Z"),
        ("America/New_York", "2026-11-01T03:00Z", ("21:00", "07:00"), "2026-11-01T12:00Z"),
        ("Africa/Cairo", "2026-04-23T20:30Z", ("22:00", "00:00"), "2026-04-23T22:00Z"),  # no midnight
        ("Asia/Kathmandu", "2026-03-10T18:00Z", ("22:00", "08:00"), "2026-03-11T02:15Z"),
    ],
)
def test_the_window_ends_where_the_clock_on_the_wall_says_so(
    zone: str, at: str, quiet: tuple[str, str], until: str
) -> None:
    assert when(at, quiet, zone=zone) == datetime.fromisoformat(until)


def test_what_is_deferred_past_its_use_is_dropped() -> None:
    end = datetime(2026, 3, 11, 7, tzinfo=UTC)
    at = datetime(2026, 3, 10, 22, tzinfo=UTC)

    assert when(at, expires=end + timedelta(seconds=1)) == end
    assert when(at, expires=end) is Reason.QUIET_HOURS
    assert when(at, expires=end - HOUR) is Reason.QUIET_HOURS


def test_a_break_is_never_deferred() -> None:
    assert when("2026-03-10T22:00Z", kind=BREAKS) is Reason.QUIET_HOURS
    assert when("2026-03-10T12:00Z", kind=BREAKS) == NOON


def test_quiet_hours_chosen_here_win_and_none_can_be_chosen() -> None:
    night = "2026-03-10T22:00Z"

    assert when(night, ("00:00", "01:00"), here=("22:00", "06:00")) == datetime(2026, 3, 11, 5, tzinfo=UTC)
    assert when(night, ("22:00", "08:00"), here=("07:00", "07:00")) == datetime.fromisoformat(night)


@pytest.mark.parametrize(
    ("local", "until"),
    [
        ("07:59", "10T08:00"),
        ("08:00", None),
        ("20:59", None),
        ("21:00", "11T08:00"),
        ("23:30", "11T08:00"),
        ("00:30", "10T08:00"),
    ],
)
def test_what_is_caught_up_keeps_the_night_from_nine_to_eight(local: str, until: str | None) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    at = datetime.combine(TODAY, time.fromisoformat(local), berlin)
    end = datetime.fromisoformat(f"2026-03-{until}").replace(tzinfo=berlin) if until else at

    assert when(at, None, late=True) == end
    assert when(at, None) == at
    assert when(at, ("03:00", "03:00"), late=True) == at
    assert when(at, None, here=("03:00", "03:00"), late=True) == at


instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(
    lambda at: at.replace(second=0, microsecond=0, tzinfo=UTC)
)
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo"]
)


@given(instants, zones, clock_times, clock_times)
@example(datetime(2026, 10, 25, 1, 15, tzinfo=UTC), "Europe/Berlin", time(22), time(2, 30))
@example(datetime(2026, 3, 29, 0, 45, tzinfo=UTC), "Europe/Berlin", time(22), time(2, 30))
@example(datetime(2026, 4, 23, tzinfo=UTC), "Africa/Cairo", time(0, 1), time(0))
def test_nothing_goes_out_in_a_quiet_hour_or_before_it_was_decided_or_later_than_needed(
    at: datetime, zone: str, start: time, end: time
) -> None:
    def quiet(moment: datetime) -> bool:
        """Walk around the clock from the start; the end comes before or after this moment."""
        now = moment.astimezone(ZoneInfo(zone)).time()
        since, length = (_minutes(now) - _minutes(start)) % 1440, (_minutes(end) - _minutes(start)) % 1440
        return since < length

    found = when(at, (start.isoformat(), end.isoformat()), zone=zone, expires=at + timedelta(days=3))

    assert isinstance(found, datetime)
    assert found >= at
    assert not quiet(found)
    assert (found == at) == (not quiet(at))
    assert found.astimezone(ZoneInfo(zone)).time() in (at.astimezone(ZoneInfo(zone)).time(), end) or any(
        gap <= found < gap + HOUR for gap in _AFTER_GAPS
    )
    skipped = any(at < gap <= found for gap in _AFTER_GAPS)  # and with it, perhaps, all that is not quiet
    assert found - at <= timedelta(hours=49 if skipped else 25)


_AFTER_GAPS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 4, 23, 22, tzinfo=UTC),
]
"""The first instants after the gaps of 2026 in these zones, when no clock on a wall shows some times."""


def _minutes(at: time) -> int:
    return at.hour * 60 + at.minute
