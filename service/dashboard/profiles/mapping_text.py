"""A profile as a complete mapping file, to start from. Pure."""

import json
from collections.abc import Iterable, Iterator

from service.dashboard.profiles.mapping_fields import UNITS
from service.dashboard.profiles.shapes import NOTIFICATIONS, Collection, Profile

NAME = "my-dashboard"
_HEAD = """\
# The built-in profile {name} as a mapping file. Change what is different at your dashboard, and delete what
# it does not have. docs/mapping.md describes every key.
name = "{new_name}"
extends = "none"

[tables]"""


def mapping_text(profile: Profile) -> str:
    """The text of a mapping file that says what a built-in profile says."""
    lines = [_HEAD.format(name=profile.name, new_name=NAME)]
    lines += [f"{collection} = {json.dumps(profile.table(collection).name)}" for collection in Collection]
    inbox = NOTIFICATIONS["postgresql" if profile.name == "PG" else "mongodb"]
    lines.append(f"notifications = {json.dumps(inbox.name)}")
    for collection in Collection:
        lines += ["", f"[{collection}]"]
        for field, paths in profile.table(collection).fields.items():
            lines.append(f"{field} = {json.dumps(list(paths) if len(paths) > 1 else paths[0])}")
        lines += _settings(profile, collection)
    lines += ["", "[notifications]"]
    lines += [f"{field} = {json.dumps(path)}" for field, (path,) in inbox.fields.items()]
    return "\n".join(lines) + "\n"


def _settings(profile: Profile, collection: Collection) -> Iterator[str]:
    if collection is Collection.GOALS:
        yield f"open_states = {_listed(profile.open_states)}"
    elif collection is Collection.SESSIONS:
        names = {seconds: name for name, seconds in UNITS.items()}
        yield f'planned_unit = "{names[profile.planned_unit]}"'
        yield f'focus_unit = "{names[profile.focus_unit]}"'
        yield f"focus_kinds = {_listed(profile.focus_kinds)}"
        yield f"running_states = {_listed(profile.running_states)}"


def _listed(words: Iterable[str]) -> str:
    return json.dumps(sorted(words))
