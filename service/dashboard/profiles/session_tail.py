"""SESSION_TAIL: whether the elapsed time of a session includes its last running stretch (profile A). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from service.dashboard.profiles.fields import Getter, getters
from service.dashboard.profiles.shapes import Document, Profile
from service.dashboard.profiles.values import instant, number


@dataclass(frozen=True)
class SessionTail:
    """Whether ``elapsedTime`` includes the last running stretch. ``agreement``: of the votes, 0–1."""

    included: bool = False
    agreement: float = 1.0
    votes: int = 0

    @property
    def ambiguous(self) -> bool:
        """Whether fewer than 90 % of the votes agree; health reports that."""
        return self.votes > 0 and self.agreement < 0.9


def uses_tail(profile: Profile) -> bool:
    """Whether focus time is computed from elapsed time and the last stretch."""
    return "elapsed" in profile.sessions.fields


def judge_tail(profile: Profile, documents: Sequence[Document]) -> SessionTail:
    """Decide by majority among completed sessions that were never paused (nor resumed)."""
    get = getters(profile.sessions)
    votes = [vote for document in documents if (vote := _vote(profile, get, document)) is not None]
    if not votes:
        return SessionTail()
    included_votes = sum(votes)
    included = included_votes * 2 > len(votes)
    return SessionTail(included, max(included_votes, len(votes) - included_votes) / len(votes), len(votes))


def _vote(profile: Profile, get: Mapping[str, "Getter"], document: Document) -> bool | None:
    created, resumed, ended = (instant(get[name](document)) for name in ("started", "resumed", "ended"))
    elapsed = number(get["elapsed"](document)) or 0.0
    if get["status"](document) != "completed" or get["paused"](document) is not None:
        return None
    if not created or not resumed or not ended or abs(resumed - created) > timedelta(seconds=2):
        return None
    stretch = (ended - resumed).total_seconds()
    return elapsed * profile.focus_unit >= stretch / 2 if stretch >= 10 else None
