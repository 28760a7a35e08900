"""A slice of a table in id order."""

from dataclasses import dataclass

from service.sources.profiles import Document


@dataclass(frozen=True)
class Page:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str
