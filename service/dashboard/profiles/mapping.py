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

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from service.dashboard.profiles.detect import REQUIRED
from service.dashboard.profiles.mapping_fields import (
    UNIT_FIELDS,
    UNITS,
    field_paths,
    field_problems,
    field_rule,
)
from service.dashboard.profiles.mapping_notifications import SECTION as NOTIFICATIONS_SECTION
from service.dashboard.profiles.mapping_notifications import notifications_problems, notifications_table
from service.dashboard.profiles.mapping_source import source_problems, source_query
from service.dashboard.profiles.rules import Rule
from service.dashboard.profiles.shapes import PROFILES, Collection, Profile, Table
from service.errors import ConfigurationError

_STATES = {"open_states": "goals", "focus_kinds": "timer_sessions", "running_states": "timer_sessions"}
_NAME = re.compile(r"[\w.-]{1,40}", re.ASCII)
_EMPTY = Profile(
    name="mapping",
    users=Table("", {}),
    goals=Table("", {}),
    sessions=Table("", {}),
    open_states=frozenset(),
    focus_kinds=frozenset({"pomodoro", "focus", "custom"}),
    running_states=frozenset(),
    planned_unit=1,
    focus_unit=1,
)
_BASES = {**PROFILES, "none": _EMPTY}
_KNOWN = {
    str(collection): {field for p in PROFILES.values() for field in p.table(collection).fields}
    for collection in Collection
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
    problems = [*_file_problems(given), *_table_name_problems(given), *notifications_problems(given)]
    has_base = not problems
    by_section = {c: _section_problems(c, given, known[c]) for c in Collection}
    well_formed = [collection for collection, section_problems in by_section.items() if not section_problems]
    problems += [problem for section_problems in by_section.values() for problem in section_problems]
    profile = _profile(given, well_formed) if has_base else _EMPTY
    if has_base:
        problems += [p for collection in well_formed for p in _cross_problems(profile, collection, given)]
    if problems:
        raise ConfigurationError([f"DASHBOARD_SCHEMA: {problem}" for problem in problems])
    return profile


# ── The profile ─────────────────────────────────────────────────────────────────────────────────────────────


def _profile(given: Mapping[str, Any], sections: Iterable[Collection]) -> Profile:
    """The profile of a file, from those of its sections that are well-formed."""
    base = _BASES[given.get("extends", "A")]
    written = {collection: given.get(collection, {}) for collection in sections}
    goals, sessions = written.get(Collection.GOALS, {}), written.get(Collection.SESSIONS, {})
    return replace(
        base,
        name=given.get("name", "mapping"),
        users=_overlay(base.users, given, Collection.USERS, written),
        goals=_overlay(base.goals, given, Collection.GOALS, written),
        sessions=_overlay(base.sessions, given, Collection.SESSIONS, written),
        open_states=_states(goals, "open_states", "open", base.open_states),
        focus_kinds=frozenset(sessions.get("focus_kinds", base.focus_kinds)),
        running_states=_states(sessions, "running_states", "running", base.running_states),
        planned_unit=UNITS.get(sessions.get("planned_unit", ""), base.planned_unit),
        focus_unit=UNITS.get(sessions.get("focus_unit", ""), base.focus_unit),
        notifications=notifications_table(given),
    )


def _states(section: Mapping[str, Any], key: str, ours: str, base: frozenset[str]) -> frozenset[str]:
    """The states that mean ``ours``: itself alone, where the file turns stored states into our words."""
    rule = field_rule(section.get("status"))
    if rule is None:
        return frozenset(section.get(key, base))
    return frozenset({ours} if _outcomes(rule) else {ours, *section.get(key, base)})


def _overlay(
    base: Table, given: Mapping[str, Any], collection: Collection, written: Mapping[Collection, Any]
) -> Table:
    section = written.get(collection, {})
    units = UNIT_FIELDS.get(collection, {})
    overrides = {f: value for f, value in section.items() if f not in {"source", *_STATES, *units}}
    paths, rules = dict(base.fields), dict(base.rules)
    if "focus" in overrides:  # with stored focus time, profile A's computation is not needed
        paths.pop("elapsed", None)
        paths.pop("resumed", None)
    for field, value in overrides.items():
        paths[field] = field_paths(value)
        rules.pop(field, None)
        if rule := field_rule(value):
            rules[field] = rule
        elif not paths[field]:
            del paths[field]
    if collection is Collection.USERS:
        for key, field in units.items():
            if key in section:
                rules[field] = replace(rules.get(field, Rule()), factor=UNITS[section[key]] / 60)
    name = given.get("tables", {}).get(collection, base.name)
    if "source" not in section:
        return Table(name, paths, rules)
    return Table(f"the source of {collection}", paths, rules, source_query(section["source"], name))


# ── Problems ────────────────────────────────────────────────────────────────────────────────────────────────


def _file_problems(given: Mapping[str, Any]) -> list[str]:
    problems = []
    if given.get("extends", "A") not in list(_BASES):
        problems.append(f"extends must be one of {', '.join(_BASES)}")
    name = given.get("name", "mapping")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in {*_BASES, "auto"}:
        problems.append(
            f"name must be up to 40 letters, digits, '.', '_' or '-', and none of {', '.join(_BASES)}, auto"
        )
    strange = set(given) - {"name", "extends", "tables", NOTIFICATIONS_SECTION, *_KNOWN}
    return [*problems, *(f"unknown section or key {section!r}" for section in sorted(strange))]


def _table_name_problems(given: Mapping[str, Any]) -> list[str]:
    tables = given.get("tables", {})
    if not isinstance(tables, dict):
        return ["[tables] must be a table"]
    problems = []
    for key, value in tables.items():
        if key == NOTIFICATIONS_SECTION:
            continue
        if key not in _KNOWN or not isinstance(value, str) or value != value.strip():
            problems.append(f"[tables] {key}: name one of {', '.join(_KNOWN)}, {NOTIFICATIONS_SECTION}")
        elif key == "users" and value == "":
            problems.append("[tables] users: there must be people; name where they are")
        elif value == "" and given.get(key):
            problems.append(f"[tables] {key} says that there is no such table, but [{key}] describes it")
    return problems


def _section_problems(section: Collection, given: Mapping[str, Any], known: set[str]) -> list[str]:
    written, tables = given.get(section, {}), given.get("tables", {})
    if not isinstance(written, dict):
        return [f"[{section}] must be a table"]
    problems = []
    for key, value in written.items():
        if key in UNIT_FIELDS.get(section, {}):
            if value not in list(UNITS):
                problems.append(f"[{section}] {key} must be one of {', '.join(UNITS)}")
        elif _STATES.get(key) == section:
            problems += _state_problems(section, key, value)
        elif key == "source":
            table = tables.get(section) if isinstance(tables, dict) else None
            problems += source_problems(section, value, table=table)
        elif key not in known:
            problems.append(f"[{section}] unknown field {key!r}; known are {', '.join(sorted(known))}")
        else:
            problems += field_problems(section, key, value)
    return problems


def _state_problems(section: Collection, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        return [f"[{section}] {key} must be a list of strings"]
    if not value and key != "running_states":
        return [f"[{section}] {key} is empty: nothing would ever count"]
    return []


def _cross_problems(profile: Profile, collection: Collection, given: Mapping[str, Any]) -> list[str]:
    """Problems that concern several entries of a section."""
    table = profile.table(collection)
    section = given.get(collection, {})
    if not table.name or (table.query and table.query.kind == "mongodb" and not table.stored_as):
        if given.get("tables", {}).get(collection) == "":
            return []
        return [f'[tables] {collection}: name where they are, or "" where there are none']
    problems = [
        f"[{collection}] {' or '.join(field.split('|'))} must be mapped: without it nothing can be read"
        for field in ("id", *REQUIRED[collection])
        if not any(name in table.fields for name in field.split("|"))
    ]
    problems += [
        f"[{collection}] {key} and values of status: give either"
        for key in ("open_states", "running_states")
        if key in section and _outcomes(field_rule(section.get("status")))
    ]
    if collection is Collection.GOALS and not profile.open_states:
        problems.append("[goals] open_states must be given, or values of status")
    problems += _duplicate_problems(profile, collection)
    problems += [f"[{collection}] {problem}" for problem in _rule_problems(profile, collection)]
    return problems


def _duplicate_problems(profile: Profile, collection: Collection) -> list[str]:
    earlier = list(Collection)[: list(Collection).index(collection)]
    name = profile.table(collection).name
    return [
        f"[tables] {other} and {collection} both name {name!r}"
        for other in earlier
        if profile.table(other).name == name
    ]


def _rule_problems(profile: Profile, collection: Collection) -> list[str]:
    table = profile.table(collection)
    problems = [
        f"{field}: {rule.derive!r} needs {operand}, which is not mapped"
        for field, rule in table.rules.items()
        for operand in rule.operands
        if operand not in table.fields
    ]
    derived = {field for field, rule in table.rules.items() if rule.derive}
    problems += [
        f"{field}: {table.rules[field].derive!r}, but {operand} is itself derived from it"
        for field in sorted(derived)
        for operand in table.rules[field].operands
        if operand in derived and field in table.rules[operand].operands
    ]
    counting = {Collection.GOALS: ("status", profile.open_states)}
    counting[Collection.SESSIONS] = ("kind", profile.focus_kinds)
    field, ours = counting.get(collection, ("", frozenset()))
    outcomes = _outcomes(table.rules.get(field))
    if outcomes and not outcomes & ours:
        words = [", ".join(sorted(some)) for some in (outcomes, ours)]
        problems.append(f"{field} is only ever {words[0]}: nothing would count (only {words[1]} does)")
    return problems


def _outcomes(rule: Rule | None) -> set[str]:
    """Every value that a rule can give; empty where stored values are read as they are."""
    if rule is None:
        return set()
    if rule.constant is not None:
        return {rule.constant}
    if not rule.values and rule.other is None:
        return set()
    return {value for value in (*rule.values.values(), rule.other, rule.missing) if value is not None}
