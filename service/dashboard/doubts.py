"""What looks like a mistake at the dashboard without being one for certain: warnings with their remedies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.dashboard.profiles.shapes import Document, Table
from service.dashboard.source import Source


@dataclass(frozen=True, slots=True)
class Doubt:
    """``what`` was found, and its ``remedy``."""

    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Both."""
        return f"{self.what}; {self.remedy}"


NOTHING_VISIBLE = Doubt(
    "the database has no tables that this user can see",
    "check its name in the URL (DASHBOARD_URL, DASHBOARD_DATABASE), and the user's rights",
)


def hidden_rows(name: str) -> Doubt:
    """Row level security of a table applies to our user."""
    return Doubt(
        f"row level security of {name} may hide rows from this user",
        "give it a policy that shows all, or the attribute BYPASSRLS",
    )


def nothing_there(names: Sequence[str]) -> Doubt:
    """No table has a row."""
    return Doubt(
        f"the dashboard has no rows yet ({', '.join(names)})",
        "if the dashboard has people, this is another database: check its name in DASHBOARD_URL",
    )


async def doubts_about(
    source: Source, tables: Iterable[Table], names: frozenset[str], samples: Mapping[str, Sequence[Document]]
) -> list[Doubt]:
    """Whether we look at the right database, and see all of it.

    ``tables``: those that a profile names; ``names``: all that exist; ``samples``: documents by table.
    """
    if not names:
        return [NOTHING_VISIBLE]
    looked_at = {table.name: table for table in tables if _exists(table, names)}
    hidden = [hidden_rows(name) for name, table in looked_at.items() if await source.hides_rows(table)]
    if hidden or not looked_at or any(samples.get(name) for name in looked_at):
        return hidden
    return [nothing_there(list(looked_at))]


def _exists(table: Table, names: frozenset[str]) -> bool:
    return table.name in names or "." in table.name  # of another schema
