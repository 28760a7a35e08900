"""How answers look: aligned tables for people, tab-separated lines for programs. Pure."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

_GAP = "  "
_NONE = "–"
_LEAST = 8
"""Columns to which words may be cut."""
_PROSE = 22
"""Columns below which sentences stand under their row instead of beside it."""
_INDENT = "    "
_JOINERS = "\u200c\u200d"
"""Parts of words and of emoji, though they count as controls."""

Row = dict[str, Any]
Get = str | Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A heading, where its value is, and how it is written.

    Kinds: ``text`` may be cut, ``name`` never is (it is to be copied), ``prose`` is wrapped; ``ident``,
    ``number``, ``share`` and ``percent`` stand to the right; ``time`` and ``period``. ``extra`` ones are for
    whoever has room, and for programs.
    """

    heading: str
    get: Get
    kind: str = "text"
    extra: bool = False

    def of(self, row: Row) -> Any:
        """The value; a dotted name leads into nested objects."""
        if callable(self.get):
            return self.get(row)
        found: Any = row
        for part in self.get.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    @property
    def right(self) -> bool:
        """Whether its values stand to the right."""
        return self.kind in {"ident", "number", "share", "percent"}


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows under headings. ``empty`` is said where there are none."""

    columns: Sequence[TableColumn]
    rows: Sequence[Row]
    title: str = ""
    empty: str = "nothing"


@dataclass(frozen=True, slots=True)
class FieldList:
    """One thing, a line for each of its sides; those without a value are left out for people."""

    columns: Sequence[TableColumn]
    row: Row
    title: str = ""


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text as it is: a mail; or sentences, which are wrapped."""

    text: str
    sentences: bool = False


Block = TextTable | FieldList | TextBlock


def _maker(kind: str) -> Callable[..., TableColumn]:
    def make(heading: str, get: Get = "", *, extra: bool = False) -> TableColumn:
        return TableColumn(heading, get or heading, kind, extra)

    return make


text, name, ident, prose = _maker("text"), _maker("name"), _maker("ident"), _maker("prose")
number, share, percent = _maker("number"), _maker("share"), _maker("percent")
time, period = _maker("time"), _maker("period")


def sentences(told: str) -> TextBlock:
    """Words that are wrapped."""
    return TextBlock(told, sentences=True)


# ── For people ──────────────────────────────────────────────────────────────────────────────────────────────


def for_people(blocks: Sequence[Block], room: int, zone: tzinfo | None = None) -> str:
    """Aligned, within ``room`` columns, times in the reader's zone."""
    shown = [*(_block(block, room, zone) for block in blocks), _zones(blocks, zone)]
    return "\n\n".join(one for one in shown if one) + "\n"


def _block(block: Block, room: int, zone: tzinfo | None) -> str:
    match block:
        case TextBlock():
            lines = [clean(line) for line in block.text.rstrip().splitlines()]
            wrapped = [one for line in lines for one in _wrapped(line, room)] if block.sentences else lines
            return "\n".join(wrapped)
        case FieldList():
            return _titled(block.title, _facts(block, room, zone))
        case TextTable():
            return _titled(block.title, _table(block, room, zone) if block.rows else [block.empty])


def _titled(title: str, lines: list[str]) -> str:
    return "\n".join([title, *lines] if title else lines)


def _zones(blocks: Sequence[Block], zone: tzinfo | None) -> str:
    """Which zone the times of tables are in; nothing where there are none, or all is UTC."""
    told = [
        column.of(row)
        for block in blocks
        if isinstance(block, TextTable)
        for column in block.columns
        if column.kind == "time"
        for row in block.rows
    ]
    local = [at.astimezone(zone) for one in told if isinstance(one, str) and (at := _instant(one))]
    names = list(dict.fromkeys(f"{at:%Z} (UTC{at:%z})" for at in local if at.utcoffset()))
    return f"Times: {', '.join(names)}" if names else ""


def _facts(block: FieldList, room: int, zone: tzinfo | None) -> list[str]:
    cells = [(column.heading, _long(column, block.row, zone)) for column in block.columns]
    told = [(heading, value) for heading, value in cells if value not in {"", _NONE}]
    wide = max((width(heading) for heading, _ in told), default=0)
    lines = []
    for heading, value in told:
        first, *rest = _wrapped(value, max(room - wide - len(_GAP), 20))
        lines.append(f"{_padded(heading, wide)}{_GAP}{first}")
        lines += [f"{' ' * wide}{_GAP}{line}" for line in rest]
    return lines


def _long(column: TableColumn, row: Row, zone: tzinfo | None) -> str:
    value = column.of(row)
    at = _instant(value) if column.kind == "time" and isinstance(value, str) else None
    if at is None:
        return cell(column.kind, value, zone)
    local = at.astimezone(zone)
    if local.utcoffset():
        return f"{local:%Y-%m-%d %H:%M:%S %Z} ({at.astimezone(UTC):%H:%M:%S} UTC)"
    return f"{local:%Y-%m-%d %H:%M:%S} UTC"


def _wrapped(value: str, room: int) -> list[str]:
    """At blanks; what has none is left as it is, to be copied."""
    lines = [""]
    for word in value.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > room:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _table(block: TextTable, room: int, zone: tzinfo | None) -> list[str]:
    cells = [[cell(column.kind, column.of(row), zone) for row in block.rows] for column in block.columns]
    natural = [
        max(width(column.heading), *map(width, told))
        for column, told in zip(block.columns, cells, strict=True)
    ]
    kept, below = chosen(block.columns, natural, room)
    wide = fitted([block.columns[n] for n in kept], [natural[n] for n in kept], room)
    lines = _lined([block.columns[n].heading for n in kept], [block.columns[n] for n in kept], wide)
    for row in range(len(block.rows)):
        lines += _lined([cells[n][row] for n in kept], [block.columns[n] for n in kept], wide)
        for n in below:
            if cells[n][row] not in {"", _NONE}:
                lines += [_INDENT + line for line in _wrapped(cells[n][row], max(room - len(_INDENT), 20))]
    left = [
        column.heading
        for n, column in enumerate(block.columns)
        if not column.extra and n not in kept and n not in below
    ]
    return [*lines, f"(not shown here: {', '.join(left)})"] if left else lines


def chosen(columns: Sequence[TableColumn], natural: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """Which columns stand beside each other, and which sentences below their row.

    What is extra goes first, then sentences move below, then whatever stands last.
    """
    kept, below = list(range(len(columns))), list[int]()

    def fits() -> bool:
        least = (_least(columns[n], natural[n]) for n in kept)
        return sum(least) + len(_GAP) * (len(kept) - 1) <= room

    while not fits() and len(kept) > 1:
        extra = [n for n in kept if columns[n].extra]
        sentences_ = [n for n in kept if columns[n].kind == "prose"]
        going = (extra or sentences_ or kept)[-1]
        kept.remove(going)
        if not extra and sentences_:
            below.append(going)
    return kept, below


def _least(column: TableColumn, natural: int) -> int:
    """How narrow a column may be."""
    may = {"text": max(_LEAST, width(column.heading)), "prose": _PROSE}.get(column.kind, natural)
    return min(natural, may)


def fitted(columns: Sequence[TableColumn], natural: Sequence[int], room: int) -> list[int]:
    """Widths that fit into ``room``: sentences give way first, then the widest words."""
    wide = list(natural)
    while sum(wide) + len(_GAP) * (len(wide) - 1) > room:
        able = [n for n, column in enumerate(columns) if wide[n] > _least(column, natural[n])]
        if not able:
            break
        wide[max(able, key=lambda n: (columns[n].kind == "prose", wide[n]))] -= 1
    return wide


def _lined(told: Sequence[str], columns: Sequence[TableColumn], wide: Sequence[int]) -> list[str]:
    """One row: a line, or more where sentences are wrapped."""
    parts = [
        _wrapped(one, room) if column.kind == "prose" else [cut(one, room)]
        for one, column, room in zip(told, columns, wide, strict=True)
    ]
    return [
        _GAP.join(
            _padded(part[n] if n < len(part) else "", room, right=column.right)
            for part, column, room in zip(parts, columns, wide, strict=True)
        ).rstrip()
        for n in range(max(map(len, parts)))
    ]


def cell(kind: str, value: Any, zone: tzinfo | None = None) -> str:
    """One value for a person."""
    match kind, value:
        case "time", str() if at := _instant(value):
            return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"
        case "period", str():
            return clean(value).removesuffix("Z").removesuffix(":00").replace("T", " ")
        case "ident", int():
            return str(value)
        case "share", int() | float():
            return f"{100 * value:.0f} %"
        case "percent", int() | float():
            return f"{100 * value:.0f}"
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
            told = {key: _inner(one) for key, one in value.items()}
            return ", ".join(f"{clean(str(key))} {one}" for key, one in told.items() if one != _NONE) or _NONE
        case list():
            return ", ".join(map(_plain, value)) or _NONE
    return clean(str(value))


def _inner(value: Any) -> str:
    return f"({_plain(value)})" if isinstance(value, dict) and value else _plain(value)


def _instant(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def clean(value: str) -> str:
    """One line that cannot steer a terminal: people's words are in many answers."""
    return value if value.isprintable() else "".join(" " if _steers(one) else one for one in value)


def _steers(one: str) -> bool:
    return one not in _JOINERS and unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


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
    return "\n".join(_for_programs(block, titled=len(blocks) > 1) for block in blocks)


def _for_programs(block: Block, *, titled: bool) -> str:
    match block:
        case TextBlock():
            return block.text if block.text.endswith("\n") else f"{block.text}\n"
        case FieldList():
            lines = [f"{column.heading}\t{raw(column.of(block.row))}" for column in block.columns]
        case TextTable():
            rows = ["\t".join(raw(column.of(row)) for column in block.columns) for row in block.rows]
            lines = ["\t".join(column.heading for column in block.columns), *rows]
    title = [f"# {block.title}"] if titled and block.title else []
    return "".join(f"{line}\n" for line in [*title, *lines])


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
