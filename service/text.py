"""Cleaning of text that people typed, for one line of a mail or notification."""

import re
import unicodedata

# Line breaks of every kind become a space, so that a title cannot pretend to be a paragraph of ours.
_BREAKS = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")
# Joiners build emoji and are needed in Persian and Indic scripts; tags build the flags of regions.
_KEPT_FORMAT = {"\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}
_DROPPED = {"Cc", "Cs", "Cf", "Cn", "Co"}
_EXTENDS = {"\u200d", "\ufe0e", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400))}


def clean(text: str) -> str:
    """One printable line: no control characters, no bidirectional controls, single spaces."""
    if not text.isprintable():
        characters = (
            character
            for character in _BREAKS.sub(" ", text)
            if character in _KEPT_FORMAT or not _is_dropped(character)
        )
        text = "".join(characters)
    return " ".join(text.split())


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters; longer text is cut, if possible at a word's end, with an ellipsis."""
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 1 and (_extends(text[end]) or text[end - 1] == "\u200d"):
        end -= 1  # never through the middle of an accented letter or a joined emoji
    cut = text[:end]
    space = cut.rfind(" ") if text[end] != " " else end
    if space >= limit * 2 // 3:
        cut = cut[:space]
    return cut.rstrip(" ,;:.–-") + "…"


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character) in _DROPPED


def _extends(character: str) -> bool:
    return character in _EXTENDS or unicodedata.combining(character) != 0
