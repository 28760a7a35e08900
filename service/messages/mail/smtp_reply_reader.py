"""Splits what a mail server says into replies."""

from collections.abc import Iterator

_LONGEST_LINE = 8192
_MOST_LINES = 100


class MalformedReply(Exception):
    """What came is no reply of a mail server."""


class ReplyReader:
    """Reads the bytes of a connection as replies: code and text, whose lines stay lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> Iterator[tuple[int, str]]:
        """The replies that are now complete. Raises MalformedReply, after what came before it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if reply := self._line(line.rstrip(b"\r")):
                yield reply
        if len(self._rest) > _LONGEST_LINE:
            raise MalformedReply("the line of a reply does not end")

    def _line(self, line: bytes) -> tuple[int, str] | None:
        """A reply, if this line is its last one."""
        code, mark = line[:3], line[3:4]
        if len(line) > _LONGEST_LINE or len(self._lines) >= _MOST_LINES:
            raise MalformedReply("a reply is too long")
        if len(code) < 3 or not code.isdigit() or mark not in b" -":
            raise MalformedReply(f"no reply: {line[:80].decode('ascii', 'backslashreplace')}")
        self._lines.append(line[4:].decode("utf-8", "replace"))
        if mark == b"-":
            return None
        text = "\n".join(self._lines)
        self._lines = []
        return int(code), text
