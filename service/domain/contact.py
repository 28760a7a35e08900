"""Whether and when somebody may be contacted: one place for all jobs, asked at planning and at sending."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta

from service.domain.address import valid_address
from service.domain.dashboard import Channel, Kind, QuietHours, User
from service.domain.schedule import to_instant, zone_of
from service.domain.suppression import Reason

Overrides = Mapping[tuple[str, str], bool]
"""(kind or ``*``, channel or ``*``) to on or off: what the recipient told this service. It wins."""

_REMINDERS = frozenset({Kind.DEADLINES, Kind.DAILY, Kind.INACTIVE, Kind.BREAKS})
_NIGHT = QuietHours(time(21), time(8))


def verdict(
    user: User, kind: Kind, channel: Channel, overrides: Overrides, *, suppressed: bool
) -> Reason | None:
    """None when the user may get this kind on this channel, else the first rule that forbids it.

    ``suppressed``: the address is on the suppression list. In-app messages need a sound account too:
    without a usable address there is no contact at all (spec, Preferences).
    """
    if not user.active:
        return Reason.INACTIVE_ACCOUNT
    if not valid_address(user.email):
        return Reason.NO_EMAIL
    if refused := _refused(user, kind, channel, overrides):
        return refused
    return Reason.SUPPRESSED_ADDRESS if suppressed and channel is Channel.EMAIL else None


def _refused(user: User, kind: Kind, channel: Channel, overrides: Overrides) -> Reason | None:
    for key in ((kind, channel), (kind, "*"), ("*", channel), ("*", "*")):
        chosen = overrides.get((str(key[0]), str(key[1])))
        if chosen is not None:
            everything = Reason.PREF_EMAIL_OFF if channel is Channel.EMAIL else Reason.PREF_CATEGORY_OFF
            return None if chosen else (everything if key[0] == "*" else Reason.PREF_CATEGORY_OFF)
    wishes = user.preferences
    if channel is Channel.EMAIL and wishes.email is False:
        return Reason.PREF_EMAIL_OFF
    blocked = (
        (wishes.reminders is False and kind in _REMINDERS)
        or wishes.kinds.get(kind) is False
        or (wishes.in_app is False and channel is Channel.IN_APP)
        or (kind is Kind.BREAKS and channel is Channel.EMAIL and not wishes.kinds.get(kind))
    )
    return Reason.PREF_CATEGORY_OFF if blocked else None


def earliest(user: User, at: datetime, expires: datetime, *, late: bool) -> datetime | Reason:
    """When a message decided at ``at`` may go out: now, at the end of the quiet hours, or not (QUIET_HOURS).

    ``late``: a catch-up; without a setting of the user's own it keeps the night from 21:00 to 08:00 local.
    """
    quiet = user.preferences.quiet or (_NIGHT if late else None)
    zone = zone_of(user.timezone)
    local = at.astimezone(zone).replace(tzinfo=None)
    if quiet is None or not quiet.contains(local.time()):
        return at
    day = local.date() if local.time() < quiet.end else local.date() + timedelta(days=1)
    end = to_instant(datetime.combine(day, quiet.end), zone)
    return end if end < expires else Reason.QUIET_HOURS
