"""Slots at a change of the clocks: a wall-clock time that does not exist, or exists twice. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from service.engine.schedule import Schedule, Slot

_STEP = timedelta(days=1)


class ClockChange(StrEnum):
    """GAP: the clocks skip the slot's time, it comes later. OVERLAP: its time comes twice, it comes once."""

    GAP = "gap"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True)
class ClockChangeSlot:
    """A slot and the change that affects it. ``slot.local`` is the intended wall-clock time."""

    change: ClockChange
    slot: Slot


def clock_change_slots(
    schedule: Schedule, zone: ZoneInfo, after: datetime, until: datetime
) -> Iterator[ClockChangeSlot]:
    """The slots in (after, until] that a change of the clocks of ``zone`` affects; instants are aware."""
    while after < until:
        end = min(after + _STEP, until)
        # A slot that a gap moves comes after it: the day before counts too.
        if after.astimezone(zone).utcoffset() != (end + _STEP).astimezone(zone).utcoffset() or (
            (after - _STEP).astimezone(zone).utcoffset() != end.astimezone(zone).utcoffset()
        ):
            changes = ((change_of(slot, zone), slot) for slot in schedule.slots(zone, after, end))
            yield from (ClockChangeSlot(change, slot) for change, slot in changes if change)
        after = end


def change_of(slot: Slot, zone: ZoneInfo) -> ClockChange | None:
    """How a change of the clocks affects a slot; None: not at all."""
    if slot.at.astimezone(zone).replace(tzinfo=None) != slot.local:
        return ClockChange.GAP
    before, after = (slot.local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return ClockChange.OVERLAP if before != after else None
