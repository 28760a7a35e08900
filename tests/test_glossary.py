"""docs/glossary.md explains each state and reason that is stored, and none besides."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from service.engine.run import RunState
from service.messages.delivery_state import DeliveryState
from service.messages.reason import Reason

_SECTIONS = re.split(r"^## (.+)$", Path("docs/glossary.md").read_text("utf-8"), flags=re.MULTILINE)
_ROWS = re.compile(r"^\| (\w+) \| \S", re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("States of a run", RunState),
        ("States of a delivery", DeliveryState),
        ("Reasons for not sending", Reason),
    ],
)
def test_each_value_has_its_sentence(section: str, values: type[StrEnum]) -> None:
    explained = _ROWS.findall(_SECTIONS[_SECTIONS.index(section) + 1])[1:]

    assert explained == list(map(str, values))
