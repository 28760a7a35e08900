"""Zone data that is newer than any: with clocks that a test makes up."""

from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest

from service import zones
from service.zone_periods import FIRST, ZonePeriods

NEW = "2199a"
"""Its version."""
NewData = Callable[[dict[str, ZonePeriods]], None]


def forget() -> None:
    """The zone data is looked for again."""
    for one in (zones._data, zones._names, zones._groups, zones._clock, zones.zone_of):
        one.cache_clear()


def bring(folder: Path, monkeypatch: pytest.MonkeyPatch, clocks: dict[str, ZonePeriods]) -> None:
    """Let this process have new data in a folder, which has these clocks, too; ``forget`` it afterwards."""
    package = zones._package()
    folder.mkdir()
    _, _, lines = package.joinpath("tzdata.zi").read_text("utf-8").partition("\n")
    added = [name for name in clocks if name not in zones.names()]
    rules = "".join(f"Z {name} 0 - X\n" for name in added)
    (folder / "tzdata.zi").write_text(f"# version {NEW}\n{lines}{rules}")
    places = "".join(f"XX\t+0000+00000\t{name}\n" for name in added)
    (folder / "zone.tab").write_text(package.joinpath("zone.tab").read_text("utf-8") + places)
    for name, clock in clocks.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_tzif(clock))
    monkeypatch.setattr(zones, "TZPATH", (str(folder),))
    forget()


def _tzif(clock: ZonePeriods) -> bytes:
    """A file of version 2 with this clock."""
    times, types = len(clock.changes), len(clock.offsets)
    nothing = pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 1) + bytes(7)
    head = pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, times, types, 2)
    seconds = pack(f">{times}q", *((at - FIRST).total_seconds().__int__() for at in clock.changes))
    offsets = b"".join(pack(">lBB", offset, 0, 0) for offset in clock.offsets)
    return nothing + head + seconds + bytes(range(1, types)) + offsets + b"X\0" + b"\n\n"
