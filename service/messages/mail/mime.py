"""Splits MIME of untrusted mails in bounded time.

``email.parser`` recurses with the nesting and slows down with the number of boundaries.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_HEAD = 64 * 1024
_MAX_DEPTH = 8
_MAX_PARTS = 64
_MAX_VALUE = 4000
_BOUNDARY_LINE = re.compile(r"^--(?!-)(\S{1,200})[ \t]*$", re.MULTILINE)
_FIELD_NAME = re.compile(r"[!-9;-~]{1,80}")

Fields = dict[str, list[str]]
"""Values by the name of their field in lower case."""


@dataclass(frozen=True, slots=True)
class MimePart:
    """A mail, or a part of it. ``parameters``: of its type. ``body``: decoded, except that of a multipart."""

    type: str
    parameters: str
    fields: Fields
    body: str


def decode_text(raw: bytes) -> str:
    """Any bytes as text, with line ends ``\\n`` and without NUL."""
    return raw.replace(b"\0", b"").decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def leaves(mail: MimePart) -> Iterator[MimePart]:
    """The leaves in their order. A returned message is not split."""
    waiting = [(mail, 0)]
    for _ in range(_MAX_PARTS):
        if not waiting:
            return
        part, depth = waiting.pop()
        children = _children(part) if part.type.startswith("multipart/") and depth < _MAX_DEPTH else []
        waiting += [(parse_part(child), depth + 1) for child in reversed(children)]
        if not children:
            yield part


def _children(part: MimePart) -> list[str]:
    """The texts between the boundaries; a missing or wrong boundary is guessed from the first one."""
    named = parameter(part.parameters, "boundary").rstrip()
    texts = _between(part.body, named) if named else []
    if not texts:
        guess = _BOUNDARY_LINE.search(part.body)
        texts = _between(part.body, guess.group(1)) if guess else []
    return texts[:_MAX_PARTS]


def _between(body: str, boundary: str) -> list[str]:
    texts: list[str] = []
    start = None
    for line in re.finditer(rf"^--{re.escape(boundary)}(--)?[ \t]*$", body, re.MULTILINE):
        if start is not None:
            texts.append(body[start : max(start, line.start() - 1)])
        start = line.end() + 1
        if line.group(1) or len(texts) >= _MAX_PARTS:
            return texts
    return [*texts, body[start:]] if start is not None else texts


def parse_part(text: str) -> MimePart:
    """A head and, after an empty line, a body."""
    head, _, body = ("", "", text[1:]) if text.startswith("\n") else text.partition("\n\n")
    fields = parse_fields(head)
    kind, _, parameters = first_field(fields, "content-type")[:_MAX_VALUE].partition(";")
    kind = kind.strip().lower() or "text/plain"
    if not kind.startswith("multipart/"):
        body = _decoded(body, first_field(fields, "content-transfer-encoding").strip().lower())
    return MimePart(kind, parameters, fields, body)


def _decoded(body: str, encoding: str) -> str:
    if encoding == "quoted-printable":
        return decode_text(binascii.a2b_qp(body.encode()))
    if encoding == "base64":
        data = re.sub(r"[^A-Za-z0-9+/]+", "", body)
        data = data[: len(data) - (len(data) % 4 == 1)]
        return decode_text(binascii.a2b_base64(data + "=" * (-len(data) % 4)))
    return body


def parse_fields(head: str) -> Fields:
    """Header fields by their names in lower case, unfolded; lines that are no fields are passed over."""
    fields: Fields = {}
    for line in re.sub(r"\n[ \t]+", " ", head[:_MAX_HEAD]).split("\n"):
        name, colon, value = line.partition(":")
        if colon and _FIELD_NAME.fullmatch(name.rstrip()):
            fields.setdefault(name.rstrip().lower(), []).append(value.strip())
    return fields


def first_field(fields: Fields, name: str) -> str:
    """The first field of a name in lower case; empty where there is none."""
    return fields.get(name, ("",))[0]


def parameter(parameters: str, name: str) -> str:
    """A parameter of a field, as ``boundary`` in ``; boundary="x"``; empty where there is none."""
    match = re.search(rf'(?:^|;)\s*{name}\s*=\s*(?:"([^"]*)"|([^\s;"]+))', parameters, re.IGNORECASE)
    return (match.group(1) or match.group(2) or "") if match else ""
