"""What a source hands over: a slice of a table in id order, and a document as it is stored."""

from dataclasses import dataclass

from service.sources.profiles import Document


@dataclass(frozen=True)
class Page:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str


@dataclass(frozen=True)
class Original:
    """A document, and all of it as text from which the source makes the same again (None: it could not)."""

    document: Document
    body: str | None
