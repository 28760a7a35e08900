"""Time zones by IANA's names: the valid names, the zone of each, and its ``ZoneInfo``.

The data is the ``tzdata`` package's, or this machine's if that is newer. A name of ``zone.tab`` is a
place that people know (``Europe/Oslo``) and is used as it is; any other link is replaced by its target
(``Asia/Calcutta``: ``Asia/Kolkata``). Other files of a machine's data (``localtime``, ``posixrules``,
``right/…``) and ``Factory``, which means that no zone is set, are no names.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

UTC_NAME = "UTC"
_NO_ZONES = {"Factory", "localtime", "posixrules"}


@dataclass(frozen=True)
class _Names:
    """``zones``: each name and the zone it links to (itself where it is no link); ``places``: of zone.tab,
    with their countries."""

    zones: Mapping[str, str]
    places: Mapping[str, str]
    any_case: Mapping[str, str]


def canonical_name(text: object) -> str | None:
    """The name in IANA's spelling; None: there is no such name. Ignores case and surrounding whitespace."""
    if not isinstance(text, str) or not text.isascii():
        return None
    return _names().any_case.get(text.strip().lower())


def current_name(name: str) -> str:
    """The current name of the zone of a name in IANA's spelling. Raises KeyError for any other."""
    names = _names()
    return name if name in names.places or name == UTC_NAME else names.zones[name]


def names() -> Set[str]:
    """All names, in IANA's spelling."""
    return _names().zones.keys()


def places() -> tuple[str, ...]:
    """The names that people are offered, in order: those of ``zone.tab``."""
    return tuple(sorted(_names().places))


def country_of(name: str) -> str | None:
    """The ISO code of the country of a place; None: the name is that of no place (UTC)."""
    canonical = canonical_name(name)
    return _names().places.get(current_name(canonical)) if canonical else None


def equal_groups(group: str) -> list[str]:
    """A slot group (``Asia/Kolkata@7``) under every name of its zone; a run may have been planned by any."""
    zone, separator, hour = group.partition("@")
    name = canonical_name(zone)
    names = (
        [alias for alias in _groups()[_names().zones[name]] if current_name(alias) == current_name(name)]
        if name
        else []
    )
    return list(dict.fromkeys([group, *(f"{alias}{separator}{hour}" for alias in names)]))


def current_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """Slot groups, and the same under the current names of their zones."""
    return tuple(dict.fromkeys(name for group in groups for name in (group, _current_group(group))))


@cache
def zone_of(name: str) -> ZoneInfo:
    """The ``ZoneInfo`` of a name, with that name as its key; UTC if it is no name. Never raises."""
    return _clock(canonical_name(name) or UTC_NAME)


def file_of(name: str) -> Traversable:
    """The TZif file of a name in IANA's spelling. Raises KeyError for any other."""
    for data in (_data(), _package()):  # a machine may lack the files of former names
        file = data.joinpath(*_names().zones[name].split("/"))
        if file.is_file():
            return file
    raise KeyError(name)


def iso(at: datetime) -> str:
    """An instant in UTC: ``2026-03-10T08:00:00Z``."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def iso_or_none(at: datetime | None) -> str | None:
    """The same; None where there is no instant."""
    return iso(at) if at else None


def version() -> str:
    """The version of the zone data in use, like 2026f."""
    return _version(_data())


# ── The data ────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _names() -> _Names:
    data = _data()
    zones, links = set(), {}
    for line in _text(data, "tzdata.zi").splitlines():
        match line.split(maxsplit=3):
            case ["Z", name, *_]:
                zones.add(name)
            case ["L", target, name, *_]:
                links[name] = target
    targets = {name: _target(name, links) for name in (zones | set(links)) - _NO_ZONES}
    rows = [line.split("\t") for line in _text(data, "zone.tab").splitlines() if not line.startswith("#")]
    places = {row[2]: row[0] for row in rows if len(row) > 2 and row[2] in targets}
    return _Names(targets, places, {name.lower(): name for name in targets})


def _target(name: str, links: Mapping[str, str]) -> str:
    while name in links:
        name = links[name]
    return name


@cache
def _groups() -> Mapping[str, list[str]]:
    """Every zone with all of its names, places first."""
    names = _names()
    groups = defaultdict(list)
    for name in sorted(names.zones, key=lambda name: (name not in names.places, name)):
        groups[names.zones[name]].append(name)
    return groups


def _current_group(group: str) -> str:
    zone, separator, hour = group.partition("@")
    name = canonical_name(zone)
    return f"{current_name(name)}{separator}{hour}" if name else group


@cache
def _clock(name: str) -> ZoneInfo:
    with file_of(name).open("rb") as opened:
        return ZoneInfo.from_file(opened, key=name)


@cache
def _data() -> Traversable:
    """The package's folder of zones, or this machine's if it is newer."""
    return max([_package(), *map(Path, TZPATH)], key=_version)


def _package() -> Traversable:
    return files("tzdata").joinpath("zoneinfo")


def _version(data: Traversable) -> str:
    """Like 2026f, which sorts by age; empty if the folder cannot be used."""
    if not all(data.joinpath(name).is_file() for name in ("tzdata.zi", "zone.tab")):
        return ""
    header = _text(data, "tzdata.zi").partition("\n")[0]
    return header.removeprefix("# version ").strip() if header.startswith("# version ") else ""


def _text(data: Traversable, name: str) -> str:
    return data.joinpath(name).read_text("utf-8")
