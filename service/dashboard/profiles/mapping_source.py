"""``source`` in a mapping file: a query that stands for a table. Pure.

A list, or a text that begins with a bracket, is a pipeline of MongoDB; any other text is a SELECT of
PostgreSQL.
"""

import json
import re
from datetime import date, datetime, time
from typing import Any

from service.dashboard.profiles.shapes import SourceQuery

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WRITING_STAGES = ("$out", "$merge")


def source_problems(section: str, value: Any, *, table: str | None) -> list[str]:
    """What is wrong with a source. ``table``: the name in [tables], if there is one."""
    if isinstance(value, str) and not _is_pipeline(value):
        problems = _select_problems(value)
        if table is not None:
            problems.append("a SELECT names its tables itself: leave [tables] out for it")
    else:
        problems = _pipeline_problems(value)
    return [f"[{section}] source: {problem}" for problem in problems]


def source_query(value: Any, collection: str) -> SourceQuery:
    """The query of a source that has no problems; a pipeline starts from ``collection``."""
    if isinstance(value, str) and not _is_pipeline(value):
        return SourceQuery("postgresql", value.strip().removesuffix(";").rstrip())
    stages = json.loads(value) if isinstance(value, str) else value
    return SourceQuery("mongodb", json.dumps(stages, default=_as_extended_json), collection)


def _is_pipeline(text: str) -> bool:
    return text.lstrip().startswith("[")


def _select_problems(text: str) -> list[str]:
    code = _QUOTED.sub(" ", text).strip()
    if not re.match(r"(?:select|with)\b", code, re.IGNORECASE):
        return ["it must be a SELECT, or a pipeline in brackets"]
    if ";" in code.removesuffix(";"):
        return ["it must be a single statement"]
    return ["it has no parameters like $1"] if re.search(r"\$\d", code) else []


def _pipeline_problems(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            return [f"the pipeline is not JSON: {error}"]
    if not isinstance(value, list) or not value:
        return ["a pipeline is a list of stages"]
    problems = []
    for number, stage in enumerate(value, 1):
        names = list(stage) if isinstance(stage, dict) else []
        if len(names) != 1 or not names[0].startswith("$"):
            problems.append(f'stage {number} must be a table with one key like "$match"')
        elif names[0] in _WRITING_STAGES:
            problems.append(f"stage {number} would write ({names[0]}); a source only reads")
    return problems


def _as_extended_json(value: Any) -> Any:
    """TOML's dates as MongoDB's."""
    if isinstance(value, datetime):
        return {"$date": value.isoformat() if value.tzinfo else f"{value.isoformat()}Z"}
    if isinstance(value, date):
        return {"$date": f"{value.isoformat()}T00:00:00Z"}
    assert isinstance(value, time)
    return value.isoformat()
