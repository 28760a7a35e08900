"""Nested figures as columns, and cells that no spreadsheet runs."""

from datetime import UTC, date, datetime

import pytest

from service.analytics.columns import Column, Columns, ColumnType, WholeColumn, arrange, csv_cell, flatten


def test_nesting_becomes_names() -> None:
    row = {
        "day": date(2026, 3, 1),
        "kinds": {"deep.work": {"started": 2}, "none": {}},
        "hours": [0, 5],
        "cells": [{"n": 1}],
        "whole": WholeColumn(a={"b": 1}),
        "nothing": None,
    }

    assert flatten(row) == {
        "day": date(2026, 3, 1),
        "kinds.deep\\.work.started": 2,
        "hours.0": 0,
        "hours.1": 5,
        "cells": '[{"n":1}]',
        "whole": '{"a":{"b":1}}',
        "nothing": None,
    }


def test_columns_take_the_kind_that_holds_every_value() -> None:
    columns = Columns(Column("known", ColumnType.DATE))
    columns.add([{"a": 1, "b": None, "c": None, "d": True}, {"a": 1.5, "b": {"x": 2}, "e": "t", "d": None}])

    assert columns.as_list() == [
        Column("known", ColumnType.DATE),
        Column("a", ColumnType.NUMBER),
        Column("c", ColumnType.UNKNOWN),
        Column("d", ColumnType.BOOLEAN),
        Column("b.x", ColumnType.INTEGER),
        Column("e", ColumnType.TEXT),
    ]


def test_no_value_is_lost_quietly() -> None:
    columns = [Column("a", ColumnType.INTEGER), Column("b.x", ColumnType.INTEGER)]

    assert arrange(columns, [{"b": {"x": 2}, "a": 1}, {"b": None}]) == [[1, 2], [None, None]]
    with pytest.raises(ValueError, match=r"no column for c"):
        arrange(columns, [{"c": 3}])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "true"),
        (-1.5, "-1.5"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00Z"),
        ("plain", "plain"),
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-x", "'-x"),
        ("+x", "'+x"),
        ("\tx", "'\tx"),
    ],
)
def test_cells(value: object, written: str) -> None:
    assert csv_cell(value) == written  # type: ignore[arg-type]
