"""Formats answers: aligned tables for people, tab-separated lines for programs. Pure."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

_GAP = "  "
_MISSING = "–"
_MIN_TEXT = 8
"""The width to which a text column may be cut."""
_MIN_PROSE = 22
"""The width below which sentences are printed under their row instead of in a column."""
_INDENT = "    "
_JOINERS = "\u200c\u200d"
"""Control characters that are kept: words and emoji contain them."""

Row = dict[str, Any]
Getter = str | Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A heading, where to get the value, and how to format it.

    Kinds: ``text`` may be cut, ``name`` never is, so that it can be copied, ``prose`` is wrapped; ``ident``,
    ``number``, ``share`` and ``percent`` are aligned to the right; ``time`` and ``period``. ``extra`` columns
    are dropped first if there is no room; programs get them always.
    """

    heading: str
    get: Getter
    kind: str = "text"
    extra: bool = False

    def value(self, row: Row) -> Any:
        """The value in a row; a dotted name addresses nested objects."""
        if callable(self.get):
            return self.get(row)
        value: Any = row
        for part in self.get.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    @property
    def right(self) -> bool:
        """Whether its values are aligned to the right."""
        return self.kind in {"ident", "number", "share", "percent"}


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows under headings. ``empty`` is printed if there are none."""

    columns: Sequence[TableColumn]
    rows: Sequence[Row]
    title: str = ""
    empty: str = "nothing"


@dataclass(frozen=True, slots=True)
class FieldList:
    """A line for each field of one row; for people, fields without a value are left out."""

    columns: Sequence[TableColumn]
    row: Row
    title: str = ""


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text as it is, like a mail; or ``sentences``, which are wrapped."""

    text: str
    sentences: bool = False


Block = TextTable | FieldList | TextBlock


def _column(kind: str) -> Callable[..., TableColumn]:
    def make(heading: str, get: Getter = "", *, extra: bool = False) -> TableColumn:
        return TableColumn(heading, get or heading, kind, extra)

    return make


text, name, ident, prose = _column("text"), _column("name"), _column("ident"), _column("prose")
number, share, percent = _column("number"), _column("share"), _column("percent")
time, period = _column("time"), _column("period")


def sentences(content: str) -> TextBlock:
    """A block of sentences, which are wrapped."""
    return TextBlock(content, sentences=True)


# ── For people ──────────────────────────────────────────────────────────────────────────────────────────────


def for_people(blocks: Sequence[Block], max_width: int, zone: tzinfo | None = None) -> str:
    """Aligned text within ``max_width`` columns, with times in ``zone`` (None: the local one)."""
    parts = [*(_block(block, max_width, zone) for block in blocks), _zone_note(blocks, zone)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, max_width: int, zone: tzinfo | None) -> str:
    match block:
        case TextBlock():
            lines = [clean(line) for line in block.text.rstrip().splitlines()]
            wrapped = (
                [part for line in lines for part in _wrap(line, max_width)] if block.sentences else lines
            )
            return "\n".join(wrapped)
        case FieldList():
            return _with_title(block.title, _field_lines(block, max_width, zone))
        case TextTable():
            return _with_title(
                block.title, _table_lines(block, max_width, zone) if block.rows else [block.empty]
            )


def _with_title(title: str, lines: list[str]) -> str:
    return "\n".join([title, *lines] if title else lines)


def _zone_note(blocks: Sequence[Block], zone: tzinfo | None) -> str:
    """A note on the zone of the times in tables; empty if there are none, or the zone is UTC."""
    values = [
        column.value(row)
        for block in blocks
        if isinstance(block, TextTable)
        for column in block.columns
        if column.kind == "time"
        for row in block.rows
    ]
    local = [at.astimezone(zone) for value in values if isinstance(value, str) and (at := _instant(value))]
    names = list(dict.fromkeys(f"{at:%Z} (UTC{at:%z})" for at in local if at.utcoffset()))
    return f"Times: {', '.join(names)}" if names else ""


def _field_lines(block: FieldList, max_width: int, zone: tzinfo | None) -> list[str]:
    cells = [(column.heading, _field_text(column, block.row, zone)) for column in block.columns]
    fields = [(heading, value) for heading, value in cells if value not in {"", _MISSING}]
    label_width = max((width(heading) for heading, _ in fields), default=0)
    lines = []
    for heading, value in fields:
        first, *rest = _wrap(value, max(max_width - label_width - len(_GAP), 20))
        lines.append(f"{_pad(heading, label_width)}{_GAP}{first}")
        lines += [f"{' ' * label_width}{_GAP}{line}" for line in rest]
    return lines


def _field_text(column: TableColumn, row: Row, zone: tzinfo | None) -> str:
    value = column.value(row)
    at = _instant(value) if column.kind == "time" and isinstance(value, str) else None
    if at is None:
        return cell(column.kind, value, zone)
    local = at.astimezone(zone)
    if local.utcoffset():
        return f"{local:%Y-%m-%d %H:%M:%S %Z} ({at.astimezone(UTC):%H:%M:%S} UTC)"
    return f"{local:%Y-%m-%d %H:%M:%S} UTC"


def _wrap(value: str, max_width: int) -> list[str]:
    """Wrap at spaces; long words are never broken, so that they can be copied."""
    lines = [""]
    for word in value.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > max_width:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _table_lines(block: TextTable, max_width: int, zone: tzinfo | None) -> list[str]:
    cells = [[cell(column.kind, column.value(row), zone) for row in block.rows] for column in block.columns]
    natural = [
        max(width(column.heading), *map(width, texts))
        for column, texts in zip(block.columns, cells, strict=True)
    ]
    visible, below = choose_columns(block.columns, natural, max_width)
    widths = fit_widths([block.columns[n] for n in visible], [natural[n] for n in visible], max_width)
    lines = _row_lines(
        [block.columns[n].heading for n in visible], [block.columns[n] for n in visible], widths
    )
    for row in range(len(block.rows)):
        lines += _row_lines([cells[n][row] for n in visible], [block.columns[n] for n in visible], widths)
        for n in below:
            if cells[n][row] not in {"", _MISSING}:
                lines += [_INDENT + line for line in _wrap(cells[n][row], max(max_width - len(_INDENT), 20))]
    hidden = [
        column.heading
        for n, column in enumerate(block.columns)
        if not column.extra and n not in visible and n not in below
    ]
    return [*lines, f"(not shown here: {', '.join(hidden)})"] if hidden else lines


def choose_columns(
    columns: Sequence[TableColumn], natural: Sequence[int], max_width: int
) -> tuple[list[int], list[int]]:
    """The columns to show side by side, and those to print below their row.

    If there is no room, extra columns are dropped first, then sentences move below, then the last columns go.
    """
    visible, below = list(range(len(columns))), list[int]()

    def fits() -> bool:
        min_widths = (_min_width(columns[n], natural[n]) for n in visible)
        return sum(min_widths) + len(_GAP) * (len(visible) - 1) <= max_width

    while not fits() and len(visible) > 1:
        extra = [n for n in visible if columns[n].extra]
        sentences_ = [n for n in visible if columns[n].kind == "prose"]
        removed = (extra or sentences_ or visible)[-1]
        visible.remove(removed)
        if not extra and sentences_:
            below.append(removed)
    return visible, below


def _min_width(column: TableColumn, natural: int) -> int:
    """The least width of a column."""
    limit = {"text": max(_MIN_TEXT, width(column.heading)), "prose": _MIN_PROSE}.get(column.kind, natural)
    return min(natural, limit)


def fit_widths(columns: Sequence[TableColumn], natural: Sequence[int], max_width: int) -> list[int]:
    """Column widths that fit into ``max_width``: sentences are narrowed first, then the widest text."""
    widths = list(natural)
    while sum(widths) + len(_GAP) * (len(widths) - 1) > max_width:
        shrinkable = [n for n, column in enumerate(columns) if widths[n] > _min_width(column, natural[n])]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda n: (columns[n].kind == "prose", widths[n]))] -= 1
    return widths


def _row_lines(cells: Sequence[str], columns: Sequence[TableColumn], widths: Sequence[int]) -> list[str]:
    """The lines of one row: several if sentences are wrapped."""
    parts = [
        _wrap(text_, column_width) if column.kind == "prose" else [cut(text_, column_width)]
        for text_, column, column_width in zip(cells, columns, widths, strict=True)
    ]
    return [
        _GAP.join(
            _pad(part[n] if n < len(part) else "", column_width, right=column.right)
            for part, column, column_width in zip(parts, columns, widths, strict=True)
        ).rstrip()
        for n in range(max(map(len, parts)))
    ]


def cell(kind: str, value: Any, zone: tzinfo | None = None) -> str:
    """A value as text for people."""
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
    return _format_value(value)


def _format_value(value: Any) -> str:
    match value:
        case None | bool():
            return {None: _MISSING, True: "yes", False: "no"}[value]
        case float():
            return f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case dict():
            entries = {key: _format_nested(item) for key, item in value.items()}
            return (
                ", ".join(f"{clean(str(key))} {item}" for key, item in entries.items() if item != _MISSING)
                or _MISSING
            )
        case list():
            return ", ".join(map(_format_value, value)) or _MISSING
    return clean(str(value))


def _format_nested(value: Any) -> str:
    return f"({_format_value(value)})" if isinstance(value, dict) and value else _format_value(value)


def _instant(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def clean(value: str) -> str:
    """Replace control characters, because answers contain text that users wrote."""
    return value if value.isprintable() else "".join(" " if _is_control(char) else char for char in value)


def _is_control(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def width(value: str) -> int:
    """The number of columns that a terminal needs for a text."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in value
    )


def cut(value: str, max_width: int) -> str:
    """The text, cut to ``max_width`` columns with an ellipsis."""
    if width(value) <= max_width:
        return value
    beginning = ""
    for char in value:
        if width(beginning + char) > max_width - 1:
            break
        beginning += char
    return beginning + "…"


def _pad(value: str, column_width: int, *, right: bool = False) -> str:
    blanks = " " * (column_width - width(value))
    return blanks + value if right else value + blanks


# ── For programs ────────────────────────────────────────────────────────────────────────────────────────────


def for_programs(blocks: Sequence[Block]) -> str:
    """Tab-separated lines under a line of headings: complete values, times in UTC as the API sent them."""
    return "\n".join(_for_programs(block, titled=len(blocks) > 1) for block in blocks)


def _for_programs(block: Block, *, titled: bool) -> str:
    match block:
        case TextBlock():
            return block.text if block.text.endswith("\n") else f"{block.text}\n"
        case FieldList():
            lines = [f"{column.heading}\t{raw_value(column.value(block.row))}" for column in block.columns]
        case TextTable():
            rows = ["\t".join(raw_value(column.value(row)) for column in block.columns) for row in block.rows]
            lines = ["\t".join(column.heading for column in block.columns), *rows]
    title = [f"# {block.title}"] if titled and block.title else []
    return "".join(f"{line}\n" for line in [*title, *lines])


def raw_value(value: Any) -> str:
    """A value as text for programs; empty for None."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return clean(str(value))
