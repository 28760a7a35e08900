"""The periods of a time zone, which its changes of the clocks divide; from the data of ``service.zones``."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from itertools import pairwise
from struct import calcsize, pack, unpack_from
from zoneinfo import ZoneInfo

from service import zones

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Periods are exact between them; the first is said to hold for ever before, the last for ever after."""
_SECOND = timedelta(seconds=1)
_HEADER = ">4sc15x6l"  # RFC 9636, section 3.1: TZif, the version, six counts
_NO_CHANGES = pack(_HEADER, b"TZif", b"2", 0, 0, 0, 0, 1, 1) + bytes(7)


@dataclass(frozen=True, slots=True)
class ZonePeriods:
    """The changes (aware), and the offsets in seconds ahead of UTC: before the first change, after each."""

    changes: list[datetime]
    offsets: list[int]

    def at(self, instant: datetime) -> int:
        """The offset at an instant."""
        return self.offsets[bisect_right(self.changes, instant)]


def periods(name: str) -> ZonePeriods:
    """The periods of a name's zone. Raises KeyError if there is no such name."""
    data = zones.file_of(name).read_bytes()
    noted, rule = _read(data)
    changes = [FIRST, *(at for at in noted if FIRST < at < LAST)]
    changes += [at for at in _changes_by(rule) if at > changes[-1]]
    clock = ZoneInfo.from_file(BytesIO(data))
    found = [(at, _offset(clock, at)) for at in changes]
    real = [later for earlier, later in pairwise(found) if later[1] != earlier[1]]
    return ZonePeriods([at for at, _ in real], [found[0][1], *(offset for _, offset in real)])


def differences(one: ZonePeriods, other: ZonePeriods) -> list[tuple[datetime, datetime]]:
    """The spans from ``FIRST`` to ``LAST`` in which the offsets differ; the end of each is not included."""
    edges = pairwise(sorted({FIRST, LAST, *one.changes, *other.changes}))
    return [(since, until) for since, until in edges if one.at(since) != other.at(since)]


def _read(data: bytes) -> tuple[list[datetime], bytes]:
    """The changes that a TZif file lists, and its rule for the time after them."""
    _, after = _block(data, 0, 4)
    times, end = _block(data, after, 8)
    seconds = unpack_from(f">{times}q", data, after + calcsize(_HEADER))
    return [FIRST + at * _SECOND for at in seconds if at >= 0], data[end:]


def _block(data: bytes, at: int, width: int) -> tuple[int, int]:
    """How many changes the block at ``at`` has, with times of so many bytes; and where it ends."""
    _, _, in_utc, in_standard, leaps, times, types, letters = unpack_from(_HEADER, data, at)
    size = times * (width + 1) + types * 6 + letters + leaps * (width + 4) + in_standard + in_utc
    return times, at + calcsize(_HEADER) + size


@cache
def _changes_by(rule: bytes) -> list[datetime]:
    """The changes by a rule that ends a TZif file; they are more than a month apart."""
    if b"," not in rule:
        return []
    clock = ZoneInfo.from_file(BytesIO(2 * _NO_CHANGES + rule))
    years = range(FIRST.year, LAST.year)
    months = [datetime(year, month, 1, tzinfo=UTC) for year in years for month in range(1, 13)]
    return [
        _change_between(clock, since, until)
        for since, until in pairwise([*months, LAST])
        if _offset(clock, since) != _offset(clock, until)
    ]


def _change_between(clock: ZoneInfo, since: datetime, until: datetime) -> datetime:
    """The first second with the offset of ``until``, where there is one change in between."""
    before = _offset(clock, since)
    while until - since > _SECOND:
        middle = since + (until - since) // _SECOND // 2 * _SECOND
        since, until = (middle, until) if _offset(clock, middle) == before else (since, middle)
    return until


def _offset(clock: ZoneInfo, at: datetime) -> int:
    ahead = at.astimezone(clock).utcoffset()
    assert ahead is not None
    return ahead // _SECOND
