"""The table of zones: a name as it is stored, the zone that is used for it, its clock at three instants."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

_TABLE = Path(__file__).parent / "cases" / "zones.tsv"


@dataclass(frozen=True)
class Case:
    """``accepted``: any of these is right; none: the name is refused. ``offsets``: at each instant."""

    name: str
    accepted: tuple[str, ...]
    offsets: tuple[timedelta, ...]

    def __str__(self) -> str:
        return repr(self.name)


def _offset(text: str) -> timedelta:
    hours, minutes = text[1:].split(":")
    found = timedelta(hours=int(hours), minutes=int(minutes))
    return -found if text[0] == "-" else found


def _case(line: str) -> Case:
    name, accepted, *offsets, _why = line.split("\t")
    if accepted == "refused":
        return Case(name.replace("\\0", "\0"), (), ())
    return Case(name, tuple(accepted.split("|")), tuple(map(_offset, offsets)))


_HEAD, *_LINES = _TABLE.read_text("utf-8").splitlines()
INSTANTS = tuple(datetime.fromisoformat(word) for word in _HEAD.split("\t")[2:5])
CASES = [_case(line) for line in _LINES]
ACCEPTED = [case for case in CASES if case.accepted]
REFUSED = [case for case in CASES if not case.accepted]
