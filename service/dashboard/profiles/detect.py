"""Which profile fits the documents of a dashboard best. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.dashboard.profiles.fields import share
from service.dashboard.profiles.shapes import Collection, Document, Profile, Table

_CORE = {
    Collection.USERS: ("name", "email", "timezone", "active", "last_login"),
    Collection.GOALS: ("user", "title", "status", "due", "created"),
    Collection.SESSIONS: ("user", "kind", "status", "started", "ended", "planned", "elapsed|focus"),
}
REQUIRED = {
    Collection.USERS: ("name|email",),
    Collection.GOALS: ("user", "title", "status"),
    Collection.SESSIONS: ("user", "kind", "status", "started", "planned|focus"),
}
"""Fields without which a record cannot be read; of alternatives, ``planned|focus``, one is enough."""


@dataclass(frozen=True)
class Match:
    """How well a profile fits the sampled documents.

    ``profile`` None: no documents yet (``problem`` is empty), or no profile fits (``problem`` says why).
    ``complete``: every collection had documents, so that the choice is final.
    ``score``: share of the core fields that exist, 0–1.
    """

    profile: Profile | None
    score: float = 0.0
    complete: bool = False
    problem: str = ""


def detect(candidates: Sequence[Profile], samples: Mapping[str, Sequence[Document]]) -> Match:
    """Choose the profile that fits best. ``samples``: table name → newest documents."""
    if not any(samples.values()):
        return Match(None)
    matches = [_score(profile, samples) for profile in candidates]
    fitting = [match for match in matches if not match.problem]
    if fitting:  # the first of equal ones: A is the default
        return max(fitting, key=lambda match: match.score)
    closest = max(matches, key=lambda match: match.score)
    name = closest.profile.name if closest.profile else "none"
    return replace(
        closest, profile=None, problem=f"no schema profile fits; closest is {name}: {closest.problem}"
    )


def _score(profile: Profile, samples: Mapping[str, Sequence[Document]]) -> Match:
    scores: list[float] = []
    problems: list[str] = []
    names = [name for c in Collection if (name := profile.table(c).name)]
    for collection in Collection:
        table = profile.table(collection)
        documents = samples.get(table.name, ())
        if not documents:
            continue
        core = _CORE[collection]
        scores.append(sum(share(table, field, documents) > 0 for field in core) / len(core))
        problems += [
            f"{table.name} has no {_path_names(table, field)}"
            for field in REQUIRED[collection]
            if share(table, field, documents) < 0.5
        ]
    if not scores:
        existing = ", ".join(sorted(name for name, documents in samples.items() if documents))
        return Match(
            profile, 0.0, problem=f"none of {', '.join(names)} holds anything, but there is {existing}"
        )
    return Match(
        profile, sum(scores) / len(scores), complete=len(scores) == len(names), problem="; ".join(problems)
    )


def _path_names(table: Table, field: str) -> str:
    return " or ".join(path for name in field.split("|") for path in table.fields.get(name, ()))
