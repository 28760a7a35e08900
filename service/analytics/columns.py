"""Rows of nested figures as flat columns: what CSV and Parquet need."""

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
    """What a column holds. ``UNKNOWN``: nothing was there to tell."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"
    INSTANT = "instant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its flat name."""

    name: str
    kind: ColumnType


def flatten(row: Row) -> dict[str, Scalar]:
    """Nested keys joined by ``.``, lists of plain values by their index; a list of objects is JSON text, and
    so is ``WholeColumn``.

    A dot inside a key is written ``\\.``.
    """
    flat: dict[str, Scalar] = {}
    _spread(row, "", flat)
    return flat


class WholeColumn(dict[str, Any]):
    """An object that stays in one column, because its keys are not those of its neighbours."""


def _spread(row: Row, prefix: str, flat: dict[str, Scalar]) -> None:
    for key, value in row.items():
        name = prefix + (key.replace(".", "\\.") if "." in key else key)
        if not isinstance(value, dict | list):
            flat[name] = value
        elif isinstance(value, WholeColumn) or _holds_objects(value):
            flat[name] = json.dumps(value, default=text, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, dict):
            _spread(value, f"{name}.", flat)
        else:
            flat.update({f"{name}.{place}": one for place, one in enumerate(value)})


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)


class Columns:
    """Collects the columns of rows in the order in which they turn up, after those that are known."""

    def __init__(self, *known: Column) -> None:
        self._kinds = {column.name: column.kind for column in known}

    def add(self, rows: Iterable[Row]) -> None:
        """Take these rows into account."""
        for row in rows:
            for name, value in flatten(row).items():
                self._kinds[name] = _both(self._kinds.get(name, ColumnType.UNKNOWN), kind_of(value))

    def found(self) -> list[Column]:
        """What was found. An object that is null in some rows is told by its keys alone."""
        parents = {name[:at] for name in self._kinds for at in range(len(name)) if name[at] == "."}
        return [
            Column(name, kind)
            for name, kind in self._kinds.items()
            if kind is not ColumnType.UNKNOWN or name not in parents
        ]


def kind_of(value: Scalar) -> ColumnType:
    """The kind of column that a value needs."""
    kinds = {
        bool: ColumnType.BOOLEAN,
        int: ColumnType.INTEGER,
        float: ColumnType.NUMBER,
        str: ColumnType.TEXT,
        datetime: ColumnType.INSTANT,
        date: ColumnType.DATE,
    }
    return kinds.get(type(value), ColumnType.UNKNOWN)


def _both(one: ColumnType, other: ColumnType) -> ColumnType:
    kinds = {one, other} - {ColumnType.UNKNOWN}
    if len(kinds) < 2:
        return kinds.pop() if kinds else ColumnType.UNKNOWN
    return ColumnType.NUMBER if kinds == {ColumnType.INTEGER, ColumnType.NUMBER} else ColumnType.TEXT


def text(value: Any) -> str:
    """A date or an instant (aware) as JSON and CSV write it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value.isoformat()) if isinstance(value, date) else str(value)


def cell(value: Scalar) -> str:
    """A value in CSV; null is empty. Text that a spreadsheet takes for a formula gets a leading ``'``."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, date):
        return text(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def lay(columns: Sequence[Column], rows: Iterable[Row]) -> list[list[Scalar]]:
    """The values of rows in the order of the columns. ValueError: a value has no column."""
    names = [column.name for column in columns]
    known = frozenset(names)
    laid = []
    for row in rows:
        flat = flatten(row)
        if lost := [name for name in flat.keys() - known if flat[name] is not None]:
            raise ValueError(f"no column for {', '.join(sorted(lost))}: found only while reading")
        laid.append([flat.get(name) for name in names])
    return laid
