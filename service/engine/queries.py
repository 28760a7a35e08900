"""SQL lives in ``.sql`` files beside their module: ``-- name: x``, a sentence, the query with ``$1``."""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries(dict[str, str]):
    """The named queries of one file. A misspelt name is a KeyError at import of the asking module."""


def load(module_file: str) -> Queries:
    """Read the ``.sql`` file beside a module (pass its ``__file__``); a package's has the package's name."""
    path = Path(module_file)
    stem = path.parent.name if path.stem == "__init__" else path.stem
    return parse(path.with_name(f"{stem}.sql").read_text("utf-8"))


def parse(text: str) -> Queries:
    """The named queries in the text of such a file."""
    parts = _NAME.split(text)[1:]
    return Queries(zip(parts[0::2], (part.strip() for part in parts[1::2]), strict=True))
