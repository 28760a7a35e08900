"""Mapping files (TOML): describe any other dashboard by how it differs from a built-in profile. Pure.

This example starts from ``A`` and names only the differences::

    name = "acme"
    extends = "A"

    [tables]
    users = "members"
    timer_sessions = "sittings"             # "" where the dashboard has no such table

    [users]
    name = ["givenName", "familyName"]      # joined by a space; in other fields the first one present counts
    timezone = "profile.zone"               # dots lead into embedded documents

    [goals]
    due = "finishBy"                        # "" where it has no such field
    open_states = ["open", "late"]

    [timer_sessions]
    planned = "length"
    planned_unit = "minutes"                # milliseconds | seconds | minutes
    focus = "worked"
    focus_unit = "minutes"
    focus_kinds = ["work"]
    running_states = ["ticking"]
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from service.dashboard.profiles.shapes import PROFILES, Profile, Table
from service.errors import ConfigurationError

_UNITS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0}
_STATES = {"open_states": "goals", "focus_kinds": "timer_sessions", "running_states": "timer_sessions"}
_UNIT_KEYS = ("planned_unit", "focus_unit")
_KNOWN = {
    "users": {field for p in PROFILES.values() for field in p.users.fields},
    "goals": {field for p in PROFILES.values() for field in p.goals.fields},
    "timer_sessions": {field for p in PROFILES.values() for field in p.sessions.fields},
}


def profile_from_setting(
    schema: str, read: Callable[[str], str], preferences: Iterable[str] = ()
) -> Profile | None:
    """The profile of a mapping file that DASHBOARD_SCHEMA names; None for auto and the built-in ones."""
    if schema == "auto" or schema in PROFILES:
        return None
    return parse_mapping(read(schema), preferences)


def parse_mapping(text: str, preferences: Iterable[str] = ()) -> Profile:
    """A profile from the text of a mapping file. Raises ConfigurationError naming every problem.

    ``preferences``: those of kinds of message that no built-in profile has; ``pref_<name>`` maps them.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"DASHBOARD_SCHEMA: the mapping file is not TOML: {error}"]) from None
    known = _KNOWN | {"users": _KNOWN["users"] | {f"pref_{name}" for name in preferences}}
    problems = _mapping_problems(given, known)
    if problems:
        raise ConfigurationError([f"DASHBOARD_SCHEMA: {problem}" for problem in problems])
    base = PROFILES[given.get("extends", "A")]
    sessions = given.get("timer_sessions", {})
    return replace(
        base,
        name=given.get("name", "mapping"),
        users=_overlay(base.users, given, "users"),
        goals=_overlay(base.goals, given, "goals"),
        sessions=_overlay(base.sessions, given, "timer_sessions"),
        open_states=frozenset(given.get("goals", {}).get("open_states", base.open_states)),
        focus_kinds=frozenset(sessions.get("focus_kinds", base.focus_kinds)),
        running_states=frozenset(sessions.get("running_states", base.running_states)),
        planned_unit=_UNITS.get(sessions.get("planned_unit", ""), base.planned_unit),
        focus_unit=_UNITS.get(sessions.get("focus_unit", ""), base.focus_unit),
    )


def _overlay(base: Table, mapping: Mapping[str, Any], section: str) -> Table:
    overrides = {
        field: (value,) if isinstance(value, str) else tuple(value)
        for field, value in mapping.get(section, {}).items()
        if field not in _STATES and field not in _UNIT_KEYS
    }
    base_fields = dict(base.fields)
    if "focus" in overrides:  # with stored focus time, profile A's computation is not needed
        base_fields.pop("elapsed", None)
        base_fields.pop("resumed", None)
    fields = {field: paths for field, paths in {**base_fields, **overrides}.items() if paths != ("",)}
    return Table(mapping.get("tables", {}).get(section, base.name), fields)


def _mapping_problems(given: Mapping[str, Any], known: Mapping[str, set[str]]) -> list[str]:
    problems = []
    if given.get("extends", "A") not in PROFILES:
        problems.append(f"extends must be one of {', '.join(PROFILES)}")
    strange = set(given) - {"name", "extends", "tables", *_KNOWN}
    problems += [f"unknown section or key {section!r}" for section in sorted(strange)]
    for section in {"tables", *_KNOWN} & set(given):
        if not isinstance(given[section], dict):
            problems.append(f"[{section}] must be a table")
            continue
        for key, value in given[section].items():
            problems += _entry_problems(section, key, value, known)
    return problems


def _entry_problems(section: str, key: str, value: Any, known: Mapping[str, set[str]]) -> list[str]:
    listed = isinstance(value, list) and all(isinstance(part, str) for part in value)
    if section == "tables":
        if key == "users" and value == "":
            return ["[tables] users: there must be people; name where they are"]
        fine = key in _KNOWN and isinstance(value, str)
        return [] if fine else [f"[tables] {key}: name one of {', '.join(_KNOWN)}"]
    if section == "timer_sessions" and key in _UNIT_KEYS:
        return [] if value in _UNITS else [f"[{section}] {key} must be one of {', '.join(_UNITS)}"]
    if _STATES.get(key) == section:
        return [] if listed else [f"[{section}] {key} must be a list of strings"]
    if key not in known[section]:
        return [f"[{section}] unknown field {key!r}; known are {', '.join(sorted(known[section]))}"]
    return (
        [] if listed or isinstance(value, str) else [f"[{section}] {key} must be a path or a list of paths"]
    )
