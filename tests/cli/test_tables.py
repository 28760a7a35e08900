"""How answers look: within the terminal's columns for people, cell by cell for programs."""

import json
import unicodedata
from argparse import Namespace
from collections import defaultdict
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.cli import answers, tables
from service.cli.commands import COMMANDS, Command
from service.cli.remote import request_of
from service.cli.tables import FieldList, TableColumn, TextBlock, TextTable
from tests.web.contract import contract, followed

_CET = timezone(timedelta(hours=1), "CET")
_KINDS = ("text", "name", "ident", "prose", "number", "share", "percent", "time", "period")
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6), st.text(max_size=30),
    st.sampled_from(["2026-03-10T09:00:00Z", "2026-03-10", "short", "many short words in a row"]),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)  # fmt: skip


def _example(command: Command) -> Any:
    """An answer of the document: its example where it has one, else None."""
    operation = contract()["paths"][command.path][command.method.lower()]
    for status in ("200", "201", "202"):
        content = followed(operation["responses"].get(status, {})).get("content", {})
        if "example" in content.get("application/json", {}):
            return content["application/json"]["example"]
    return None


_EXAMPLES = [(command, answer) for command in COMMANDS if (answer := _example(command))]


@pytest.mark.parametrize(("command", "answer"), _EXAMPLES, ids=lambda one: getattr(one, "words", ""))
def test_what_the_document_shows_fits_and_can_be_parsed(command: Command, answer: Any) -> None:
    blocks = command.render(answer)
    assert not [line for line in tables.for_people(blocks, 80, _CET).splitlines() if tables.width(line) > 80]
    for block in blocks:
        told = tables.for_programs([block])
        if isinstance(block, TextTable):
            assert {line.count("\t") for line in told.splitlines()} == {len(block.columns) - 1}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_table_can_be_shown_and_parsed(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=8))
    columns = [TableColumn(f"c{n}", f"c{n}", kind, data.draw(st.booleans())) for n, kind in enumerate(kinds)]
    rows = data.draw(
        st.lists(st.fixed_dictionaries({column.heading: _VALUES for column in columns}), max_size=4)
    )
    room = data.draw(st.integers(20, 120))
    told = tables.for_people([TextTable(columns, rows)], room, _CET)
    found = {unicodedata.category(one) for one in told if one not in "\n\u200c\u200d"}
    assert not found & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    programs = tables.for_programs([TextTable(columns, rows)]).splitlines()
    assert len(programs) == len(rows) + 1
    assert {line.count("\t") for line in programs} == {len(columns) - 1}


@given(
    st.lists(st.sampled_from(["text", "number", "prose", "time"]), min_size=1, max_size=12),
    st.integers(60, 200),
    st.text(st.characters(whitelist_categories=("L", "Zs")), max_size=200),
)
@example(["text", "text", "prose"], 60, "A" * 15 + "々" * 4)
def test_no_line_is_wider_than_the_terminal(kinds: list[str], room: int, words: str) -> None:
    values = {
        "text": words,
        "number": 12,
        "prose": " ".join(words[:9].split()),  # a longer word is not cut: it may be copied
        "time": "2026-03-10T09:00:00Z",
    }
    columns = [TableColumn(f"c{n}", kind, kind) for n, kind in enumerate(kinds)]
    table = tables.for_people([TextTable(columns, [values])], room, _CET)
    assert [
        line for line in table.splitlines() if tables.width(line) > room and "not shown" not in line
    ] == []


def test_numbers_stand_to_the_right_and_times_in_the_readers_zone() -> None:
    columns = (tables.ident("id"), tables.number("n"), tables.time("at", "at"), tables.share("done", "share"))
    rows: list[dict[str, Any]] = [
        {"id": 7, "n": 1234567, "at": "2026-03-10T09:00:00Z", "share": 0.5},
        {"id": 1234, "n": None, "at": None, "share": None},
    ]
    assert tables.for_people([TextTable(columns, rows)], 80, _CET) == (
        "  id          n  at                done\n"
        "   7  1,234,567  2026-03-10 10:00  50 %\n"
        "1234          –  –                    –\n"
        "\nTimes: CET (UTC+0100)\n"
    )
    assert tables.for_programs([TextTable(columns, rows)]) == (
        "id\tn\tat\tdone\n7\t1234567\t2026-03-10T09:00:00Z\t0.5\n1234\t\t\t\n"
    )
    one = FieldList((tables.time("at", "at"), tables.text("none")), rows[0])
    assert tables.for_people([one], 80, _CET) == "at  2026-03-10 10:00:00 CET (09:00:00 UTC)\n"


def test_what_is_narrow_cuts_words_moves_sentences_and_names_what_is_left_out() -> None:
    columns = (
        tables.ident("id"), tables.name("user"), tables.text("job"), tables.prose("why"), tables.number("n"),
        tables.number("m", extra=True),
    )  # fmt: skip
    row = {
        "id": 1,
        "user": "64f0c0ffee64f0c0ffee6400",
        "job": "performanceMetrics",
        "why": "It is so" + " it is so" * 8,
    }
    assert tables.for_people([TextTable(columns, [row | {"n": 1, "m": 2}])], 200).count("\n") == 2
    assert tables.for_people([TextTable(columns, [row | {"n": 1, "m": 2}])], 46) == (
        "id  user                      job            n\n"
        " 1  64f0c0ffee64f0c0ffee6400  performanceM…  1\n"
        "    It is so it is so it is so it is so it is\n"
        "    so it is so it is so it is so it is so\n"
    )
    assert "(not shown here: n)" in tables.for_people([TextTable(columns, [row | {"n": 1}])], 39)


def test_peoples_words_cannot_steer_a_terminal() -> None:
    evil = "\x1b]0;owned\x07\u202ea\ud800bc\r\nnext\ttab"
    for told in (
        tables.for_people([TextTable((tables.text("t"),), [{"t": evil}])], 80),
        tables.for_people([TextBlock(evil)], 80),
        tables.for_people([FieldList((tables.text("t"),), {"t": {evil: [evil]}})], 80),
    ):
        assert not {"\x1b", "\x07", "\ud800", "\u202e", "\r", "\t"} & set(told)
    assert tables.for_programs([TextTable((tables.text("t"),), [{"t": evil}])]).count("\n") == 2


def test_a_mail_passes_byte_for_byte() -> None:
    source = "From: a\r\n\r\nGood morning.\r\n"
    assert tables.for_programs([TextBlock(source)]) == source
    assert answers.mail({"data": {"subject": "S", "text": "T", "source": source}}, "source") == [
        TextBlock(source)
    ]


def test_wide_letters_take_two_columns() -> None:
    told = tables.for_people([TextTable((tables.text("t"), tables.number("n")), [{"t": "日本", "n": 1}])], 80)
    assert told == "t     n\n日本  1\n"
    assert tables.cut("日本語", 5) == "日本…"


def test_a_request_says_what_the_options_mean() -> None:
    run = next(command for command in COMMANDS if command.words == "run")
    given_: dict[str, Any] = defaultdict(lambda: None)
    given_ |= {"body_jobType": "reminder", "body_jobName": "x", "body_wait": False}
    options = Namespace(**given_, key=None, timeout=None, json=False)
    asked = request_of(run, options)
    assert json.loads(asked.body or b"") == {"jobType": "reminder", "jobName": "x", "wait": False}
    assert asked.key
    assert asked.timeout == run.timeout
