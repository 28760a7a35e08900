"""The fields of a mapping file: which keys and values each may have. Pure.

A field is a path, a list of paths, or a table with some of the keys of ``FieldKey``.
"""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any

from service import zones
from service.dashboard.profiles.rules import Rule
from service.dashboard.profiles.shapes import Paths
from service.dashboard.profiles.values import clock_time

UNITS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
"""Seconds in each unit."""
UNIT_FIELDS = {
    "timer_sessions": {"planned_unit": "planned", "focus_unit": "focus"},
    "users": {"work_minutes_unit": "work_minutes", "short_break_unit": "short_break"},
}
"""Section → key → the duration whose unit the key names."""
GOAL_STATES = ("open", "closed")
SESSION_STATES = ("running", "paused", "completed", "cancelled")
_DERIVATIONS = {
    "started": ("ended - focus", "ended - planned"),
    "ended": ("started + focus", "started + planned"),
    "focus": ("ended - started",),
}


class FieldKey(StrEnum):
    """The keys of a field that is a table."""

    PATH = "path"
    CONSTANT = "constant"
    VALUES = "values"
    MISSING = "missing"
    OTHER = "other"
    NEGATIVE = "negative"
    DERIVE = "derive"


_CONVERTED = frozenset({FieldKey.PATH, FieldKey.CONSTANT, FieldKey.VALUES, FieldKey.MISSING, FieldKey.OTHER})


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any, lowest: float = float("-inf"), highest: float = 1e300) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and lowest <= value <= highest


Check = tuple[Callable[[Any], bool], str]
_TEXT: Check = (_is_text, "a text")
_NUMBER: Check = (_is_number, "a number")
_FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
_DURATION: Check = (lambda value: _is_number(value, 0), "a number from 0")
_CLOCK: Check = (lambda value: clock_time(value) is not None, 'a time like "09:00", or a whole hour')


def _one_of(words: Collection[str]) -> Check:
    return (lambda value: value in words, f"one of {', '.join(words)}")


_CHECKS: Mapping[str, Mapping[str, Check]] = {
    "users": {
        "timezone": (lambda value: zones.canonical_name(value) is not None, "a time zone like Europe/Oslo"),
        "locale": _TEXT,
        "active": _FLAG,
        "week_start": (lambda value: _is_number(value, 0, 6), "0 (Sunday) to 6 (Saturday)"),
        "work_minutes": _DURATION, "short_break": _DURATION, "work_start": _CLOCK, "work_end": _CLOCK,
    },
    "goals": {
        "title": _TEXT, "category": _TEXT, "status": _one_of(GOAL_STATES), "priority": _TEXT, "unit": _TEXT,
        "target": _NUMBER, "current": _NUMBER, "progress": _NUMBER,
    },
    "timer_sessions": {
        "kind": _TEXT, "status": _one_of(SESSION_STATES), "category": _TEXT,
        "planned": _DURATION, "focus": _DURATION, "elapsed": _DURATION,
        "rating": (lambda value: _is_number(value, 1, 5), "1 to 5"),
    },
}  # fmt: skip
"""Section → field → what our value must be. Other fields have no constant and no values."""


def value_check(section: str, field: str) -> Check | None:
    """What our value of a field must be; None where a mapping file cannot say our value."""
    return _FLAG if field.startswith("pref_") else _CHECKS[section].get(field)


def allowed_keys(section: str, field: str) -> tuple[FieldKey, ...]:
    """The keys that a field may have, in order."""
    keys = {FieldKey.PATH}
    check = value_check(section, field)
    if check is not None:
        keys |= _CONVERTED
    if check is _FLAG:
        keys.add(FieldKey.NEGATIVE)
    if section == "timer_sessions" and field in _DERIVATIONS:
        keys.add(FieldKey.DERIVE)
    return tuple(key for key in FieldKey if key in keys)


def field_problems(section: str, field: str, value: Any) -> list[str]:
    """What is wrong with the value of a field."""
    if not isinstance(value, dict):
        return _path_problems(section, field, value)
    keys = allowed_keys(section, field)
    if strange := sorted(set(value) - set(keys)):
        names = ", ".join(map(repr, strange))
        return [f"[{section}] {field}: unknown key {names}; it may have {', '.join(keys)}"]
    return [
        *(_path_problems(section, field, value["path"]) if "path" in value else ()),
        *(f"[{section}] {field}: {problem}" for problem in _combination_problems(field, value)),
        *(f"[{section}] {field}: {problem}" for problem in _value_problems(section, field, value)),
    ]


def field_paths(value: Any) -> Paths:
    """The paths of a field; empty where it is said to have none."""
    stored = value.get("path", "") if isinstance(value, dict) else value
    return tuple(path for path in ([stored] if isinstance(stored, str) else stored) if path)


def field_rule(value: Any) -> Rule | None:
    """The rule of a field; None where it is read as it is stored."""
    keys = {key: item for key, item in value.items() if key != "path"} if isinstance(value, dict) else {}
    return Rule(**keys) if keys else None


def _path_problems(section: str, field: str, value: Any) -> list[str]:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return [f"[{section}] {field} must be a path, a list of paths or a table"]
    if value == "":
        return []
    malformed = [path for path in paths if not all(path.split(".")) or path != path.strip()]
    if malformed or not paths:
        return [f"[{section}] {field}: {', '.join(map(repr, malformed)) or 'an empty list'} is no path"]
    if field in {"id", "updated"} and (len(paths) > 1 or (field == "id" and "." in paths[0])):
        return [f"[{section}] {field} must be one field{' of the record itself' if field == 'id' else ''}"]
    return []


def _combination_problems(field: str, value: Mapping[str, Any]) -> list[str]:
    if "constant" in value:
        return ["a constant stands alone"] if len(value) > 1 else []
    if not value.get("path") and "derive" not in value:
        return ["name its path, or a constant"]
    if "derive" in value and value["derive"] not in _DERIVATIONS[field]:
        return [f"derive must be one of {', '.join(map(repr, _DERIVATIONS[field]))}"]
    if "derive" in value and not set(value) <= {"path", "derive"}:
        return ["derive goes with a path only"]
    if value.get("negative") and ("values" in value or "other" in value):
        return ["either negative or values"]
    return []


def _value_problems(section: str, field: str, value: Mapping[str, Any]) -> list[str]:
    if "negative" in value and not isinstance(value["negative"], bool):
        return ["negative must be true or false"]
    values = value.get("values", {})
    if "values" in value and not (isinstance(values, dict) and values):
        return ["values must list stored values, each with ours"]
    check = value_check(section, field)
    if check is None:
        return []
    fits, words = check
    ours = {key: value[key] for key in ("constant", "missing", "other") if key in value}
    ours |= {f"values.{stored}": item for stored, item in values.items()}
    return [f"{key} must be {words}, not {item!r}" for key, item in ours.items() if not fits(item)]
