"""How answers look: aligned tables for people, tab-separated lines for programs. Pure."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

_GAP = "  "
_NONE = "–"
_LEAST = 6
"""Columns to which the widest text may be cut."""

_JOINERS = "\u200c\u200d"
"""Parts of words and of emoji, though they count as controls."""

Row = dict[str, Any]
Get = str | Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, where its value is, and how it is written: text, number, share, time, day."""

    heading: str
    get: Get
    kind: str = "text"

    def of(self, row: Row) -> Any:
        """The value; a dotted name leads into nested objects."""
        if callable(self.get):
            return self.get(row)
        found: Any = row
        for part in self.get.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. ``empty`` is said where there are none."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    empty: str = "nothing"


@dataclass(frozen=True, slots=True)
class Facts:
    """One thing, a line for each of its sides; those without a value are left out for people."""

    columns: Sequence[Column]
    row: Row
    title: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """Text as it is: a mail, a sentence."""

    text: str


Block = Table | Facts | Words


def text(heading: str, get: Get = "") -> Column:
    """A column of words."""
    return Column(heading, get or heading)


def number(heading: str, get: Get = "") -> Column:
    """A column of numbers, to the right."""
    return Column(heading, get or heading, "number")


def share(heading: str, get: Get) -> Column:
    """A column of shares, told in percent."""
    return Column(heading, get, "share")


def time(heading: str, get: Get) -> Column:
    """A column of instants."""
    return Column(heading, get, "time")


# ── For people ──────────────────────────────────────────────────────────────────────────────────────────────


def for_people(blocks: Iterable[Block], room: int, zone: tzinfo | None = None) -> str:
    """Aligned, within ``room`` columns, times in the reader's zone."""
    shown = [_block(block, room, zone) for block in blocks]
    return "\n\n".join(one for one in shown if one) + "\n"


def _block(block: Block, room: int, zone: tzinfo | None) -> str:
    match block:
        case Words():
            return "\n".join(clean(line) for line in block.text.rstrip().splitlines())
        case Facts():
            return _titled(block.title, _facts(block, room, zone))
        case Table():
            if not block.rows:
                return _titled(block.title, [block.empty])
            lines = _table(block, room, zone)
            return _titled(block.title, lines)


def _titled(title: str, lines: list[str]) -> str:
    return "\n".join([title, *lines] if title else lines)


def _facts(block: Facts, room: int, zone: tzinfo | None) -> list[str]:
    cells = [(column.heading, _long(column, block.row, zone)) for column in block.columns]
    told = [(heading, value) for heading, value in cells if value not in {"", _NONE}]
    wide = max((width(heading) for heading, _ in told), default=0)
    lines = []
    for heading, value in told:
        first, *rest = _wrapped(value, max(room - wide - len(_GAP), 20))
        lines.append(f"{_padded(heading, wide)}{_GAP}{first}")
        lines += [f"{' ' * wide}{_GAP}{line}" for line in rest]
    return lines


def _long(column: Column, row: Row, zone: tzinfo | None) -> str:
    value = column.of(row)
    if column.kind == "time" and isinstance(value, str):
        at = _instant(value)
        local = at.astimezone(zone) if at else None
        if at and local and local.utcoffset():
            return f"{local:%Y-%m-%d %H:%M:%S %Z} ({at:%H:%M:%S} UTC)"
        return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else clean(value)
    return cell(column.kind, value, zone)


def _wrapped(value: str, room: int) -> list[str]:
    """At blanks; what has none is left as it is, to be copied."""
    lines = [""]
    for word in value.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > room:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _table(block: Table, room: int, zone: tzinfo | None) -> list[str]:
    rows = [[cell(column.kind, column.of(row), zone) for column in block.columns] for row in block.rows]
    heads = [column.heading for column in block.columns]
    natural = [max(width(line[n]) for line in [heads, *rows]) for n in range(len(heads))]
    flexible = [
        n for n, column in enumerate(block.columns) if column.kind == "text" and natural[n] > width(heads[n])
    ]
    wide = fitted(natural, flexible, room - len(_GAP) * (len(heads) - 1), [width(head) for head in heads])
    right = [column.kind in {"number", "share"} for column in block.columns]
    return [
        _GAP.join(_padded(cut(one, wide[n]), wide[n], right=right[n]) for n, one in enumerate(line)).rstrip()
        for line in [heads, *rows]
    ]


def fitted(natural: Sequence[int], flexible: Sequence[int], room: int, least: Sequence[int]) -> list[int]:
    """Widths that fit into ``room``: the widest text gives way first, never below its heading."""
    wide = list(natural)
    while sum(wide) > room:
        able = [n for n in flexible if wide[n] > max(least[n], _LEAST)]
        if not able:
            break
        widest = max(able, key=lambda n: wide[n])
        wide[widest] -= 1
    return wide


def cell(kind: str, value: Any, zone: tzinfo | None = None) -> str:
    """One value for a person."""
    if kind == "time" and isinstance(value, str):
        at = _instant(value)
        return f"{at.astimezone(zone):%Y-%m-%d %H:%M}" if at else clean(value)
    if kind == "share" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{100 * value:.0f} %"
    return _plain(value)


def _plain(value: Any) -> str:
    match value:
        case None | bool():
            return {None: _NONE, True: "yes", False: "no"}[value]
        case float():
            return f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case dict():
            return ", ".join(f"{clean(str(key))} {_plain(one)}" for key, one in value.items()) or _NONE
        case list():
            return ", ".join(map(_plain, value)) or _NONE
    return clean(str(value))


def _instant(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def clean(value: str) -> str:
    """One line that cannot steer a terminal: people's words are in many answers."""
    return "".join(" " if _steers(one) else one for one in value)


def _steers(one: str) -> bool:
    return one not in _JOINERS and unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp"}


def width(value: str) -> int:
    """The columns that a terminal needs for it."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in value
    )


def cut(value: str, room: int) -> str:
    """The beginning that fits, with a sign that there is more."""
    if width(value) <= room:
        return value
    kept = ""
    for one in value:
        if width(kept + one) > room - 1:
            break
        kept += one
    return kept + "…"


def _padded(value: str, room: int, *, right: bool = False) -> str:
    blanks = " " * (room - width(value))
    return blanks + value if right else value + blanks


# ── For programs ────────────────────────────────────────────────────────────────────────────────────────────


def for_programs(blocks: Sequence[Block]) -> str:
    """Tab-separated lines under a line of headings: whole values, times as they were answered (UTC)."""
    parts = []
    for block in blocks:
        name = getattr(block, "title", "")
        title = [f"# {name}"] if name and len(blocks) > 1 else []
        parts.append("".join(f"{line}\n" for line in [*title, *_lines(block)]))
    return "\n".join(parts)


def _lines(block: Block) -> list[str]:
    match block:
        case Words():
            return block.text.splitlines()
        case Facts():
            return [f"{column.heading}\t{raw(column.of(block.row))}" for column in block.columns]
        case Table():
            heads = "\t".join(column.heading for column in block.columns)
            rows = ["\t".join(raw(column.of(row)) for column in block.columns) for row in block.rows]
            return [heads, *rows]


def raw(value: Any) -> str:
    """One value for a program: empty where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return clean(str(value))
