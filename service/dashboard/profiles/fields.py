"""Reads the fields of a document by a profile's paths; dots lead into embedded documents. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.dashboard.profiles.rules import Rule
from service.dashboard.profiles.shapes import Document, Paths, Table

Getter = Callable[[Document], Any]


def getter(paths: Paths) -> Getter:
    """A function that reads the first of these paths that has a value."""
    if len(paths) == 1 and "." not in paths[0]:
        key = paths[0]
        return lambda document: document.get(key)
    split = [tuple(path.split(".")) for path in paths]

    def walk(document: Document) -> Any:
        for parts in split:
            value: Any = document
            for part in parts:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    return walk


class Getters(dict[str, Getter]):
    """Field → getter; a field that the profile does not map is read as None."""

    def __missing__(self, field: str) -> Getter:
        return _none


def _none(_: Document) -> Any:
    return None


def getters(table: Table) -> Getters:
    """Each field's getter, which applies the rule of the field."""
    return Getters({f: _ruled(getter(paths), table.rules.get(f)) for f, paths in table.fields.items()})


def path_getters(table: Table, field: str) -> list[Getter]:
    """A getter for each path of a field whose values are combined; a constant has no path."""
    paths: list[Paths] = [(path,) for path in table.fields[field]] or [()]
    return [_ruled(getter(path), table.rules.get(field)) for path in paths]


def _ruled(read: Getter, rule: Rule | None) -> Getter:
    if rule is None:
        return read
    apply = rule.apply
    return lambda document: apply(read(document))


def share(table: Table, field: str, documents: Sequence[Document]) -> float:
    """The share of documents that have a field; alternatives are written ``planned|focus``."""
    names = field.split("|")
    return sum(any(_is_stored(table, name, document) for name in names) for document in documents) / len(
        documents
    )


def _is_stored(table: Table, field: str, document: Document) -> bool:
    """Whether a document has a field, or what it is derived from."""
    rule = table.rules.get(field)
    if rule and rule.always_filled:
        return True
    if any(_has(document, path) for path in table.fields.get(field, ())):
        return True
    operands = rule.operands if rule else ()
    return bool(operands) and all(_is_stored(table, operand, document) for operand in operands)


def values(table: Table, field: str, documents: Sequence[Document]) -> list[Any]:
    """The values of a field in these documents, without missing values and empty text."""
    get = getters(table)[field]
    stored = [get(document) for document in documents]
    return [value for value in stored if value is not None and value != ""]


def _has(document: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return False
        document = document[part]
    return True
