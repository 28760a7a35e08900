"""``[notifications]`` in a mapping file: the dashboard's own inbox, which IN_APP=dashboard fills. Pure."""

from collections.abc import Mapping
from typing import Any

from service.dashboard.profiles.shapes import NOTIFICATIONS, Table

SECTION = "notifications"
FIELDS = tuple(NOTIFICATIONS["mongodb"].fields)
_REQUIRED = ("id", "user", "title", "message")
_KINDS = {"A": "mongodb", "B": "mongodb", "J": "mongodb", "PG": "postgresql"}


def notifications_problems(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the inbox of a mapping file."""
    name, section = _value(given, "tables", SECTION), given.get(SECTION, {})
    if not isinstance(section, dict):
        return [f"[{SECTION}] must be a table"]
    problems = []
    if name is not None and not (isinstance(name, str) and name and name == name.strip()):
        problems.append(f"[tables] {SECTION}: name where they are; without it IN_APP=service keeps them here")
    for field, path in section.items():
        if field not in FIELDS:
            problems.append(f"[{SECTION}] unknown field {field!r}; known are {', '.join(sorted(FIELDS))}")
        elif not isinstance(path, str) or path != path.strip() or (path and not all(path.split("."))):
            problems.append(f'[{SECTION}] {field} must be the name of a field, or "" where there is none')
    return problems or _cross_problems(given)


def notifications_table(given: Mapping[str, Any]) -> Table | None:
    """The inbox of a mapping file without problems; None: it says nothing about it."""
    name, section = _value(given, "tables", SECTION), given.get(SECTION)
    if name is None and section is None:
        return None
    kind = _KINDS.get(given.get("extends", "A"))
    base = NOTIFICATIONS[kind] if kind else Table(SECTION, {})
    fields = dict(base.fields) | {field: (path,) for field, path in (section or {}).items()}
    if "id" not in fields:
        fields["id"] = ("_id" if _value(given, "users", "id") == "_id" else "id",)
    return Table(name or base.name, {field: paths for field, paths in fields.items() if paths[0]})


def _value(given: Mapping[str, Any], section: str, key: str) -> Any:
    """A value of a section, which may be malformed."""
    values = given.get(section)
    return values.get(key) if isinstance(values, dict) else None


def _cross_problems(given: Mapping[str, Any]) -> list[str]:
    table = notifications_table(given)
    if table is None:
        return []
    stored = [paths[0] for paths in table.fields.values()]
    return [
        *(
            f"[{SECTION}] {field} must be mapped: without it there is nothing to show"
            for field in _REQUIRED
            if field not in table.fields
        ),
        *(
            f"[{SECTION}] {path} is named for several fields"
            for path in sorted({path for path in stored if stored.count(path) > 1})
        ),
    ]
