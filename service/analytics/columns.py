"""Flattens rows of nested figures into columns, for CSV and Parquet."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

Scalar = str | int | float | bool | date | datetime | None
Row = Mapping[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class ColumnType(StrEnum):
    """The type of a column. ``UNKNOWN``: it has no values."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"
    INSTANT = "instant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A column, with its flat name."""

    name: str
    kind: ColumnType


def flatten(row: Row) -> dict[str, Scalar]:
    """Join nested keys by ``.``, and name the plain values of a list by their index.

    A list of objects becomes JSON text, and so does a ``WholeColumn``.

    A dot inside a key is written ``\\.``.
    """
    flat: dict[str, Scalar] = {}
    _flatten_into(row, "", flat)
    return flat


class WholeColumn(dict[str, Any]):
    """An object that stays in one column, because other rows have other keys."""


def _flatten_into(row: Row, prefix: str, flat: dict[str, Scalar]) -> None:
    for key, value in row.items():
        name = prefix + (key.replace(".", "\\.") if "." in key else key)
        if not isinstance(value, dict | list):
            flat[name] = value
        elif isinstance(value, WholeColumn) or _contains_objects(value):
            flat[name] = json.dumps(value, default=text, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, dict):
            _flatten_into(value, f"{name}.", flat)
        else:
            flat.update({f"{name}.{index}": item for index, item in enumerate(value)})


def _contains_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


class Columns:
    """Collects the columns of rows, in order of appearance, after the initial ones."""

    def __init__(self, *initial: Column) -> None:
        self._kinds = {column.name: column.kind for column in initial}

    def add(self, rows: Iterable[Row]) -> None:
        """Take these rows into account."""
        for row in rows:
            for name, value in flatten(row).items():
                self._kinds[name] = _common_type(self._kinds.get(name, ColumnType.UNKNOWN), kind_of(value))

    def as_list(self) -> list[Column]:
        """The columns. For an object that is null in some rows, only the columns of its keys."""
        parents = {name[:at] for name in self._kinds for at in range(len(name)) if name[at] == "."}
        return [
            Column(name, kind)
            for name, kind in self._kinds.items()
            if kind is not ColumnType.UNKNOWN or name not in parents
        ]


def kind_of(value: Scalar) -> ColumnType:
    """The type of column for a value."""
    kinds = {
        bool: ColumnType.BOOLEAN,
        int: ColumnType.INTEGER,
        float: ColumnType.NUMBER,
        str: ColumnType.TEXT,
        datetime: ColumnType.INSTANT,
        date: ColumnType.DATE,
    }
    return kinds.get(type(value), ColumnType.UNKNOWN)


def _common_type(first: ColumnType, second: ColumnType) -> ColumnType:
    kinds = {first, second} - {ColumnType.UNKNOWN}
    if len(kinds) < 2:
        return kinds.pop() if kinds else ColumnType.UNKNOWN
    return ColumnType.NUMBER if kinds == {ColumnType.INTEGER, ColumnType.NUMBER} else ColumnType.TEXT


def text(value: Any) -> str:
    """A date or an aware datetime as text, for JSON and CSV."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value.isoformat()) if isinstance(value, date) else str(value)


def csv_cell(value: Scalar) -> str:
    """A value as CSV; null is empty. Text that a spreadsheet may take for a formula gets a leading ``'``."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, date):
        return text(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def arrange(columns: Sequence[Column], rows: Iterable[Row]) -> list[list[Scalar]]:
    """The values of rows in the order of the columns. ValueError: a value has no column."""
    names = [column.name for column in columns]
    existing = frozenset(names)
    arranged = []
    for row in rows:
        flat = flatten(row)
        if unmapped := [name for name in flat.keys() - existing if flat[name] is not None]:
            raise ValueError(f"no column for {', '.join(sorted(unmapped))}: found only while reading")
        arranged.append([flat.get(name) for name in names])
    return arranged
