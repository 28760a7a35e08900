"""From frozen facts to the three texts of a mail: subject, plain text, HTML."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from css_inline import CSSInliner
from jinja2 import BaseLoader, Environment, StrictUndefined, Template

from service.domain.dashboard import Kind
from service.domain.plain import clean, shorten
from service.mail.words import Words, words_for

SUBJECT_LIMIT = 78
GOALS_SHOWN = 25
"""More would push the mail over the size at which large providers hide its end, unsubscribe link included."""

_FOLDER = Path(__file__).parent / "templates"
_LIMITS = {"subject": SUBJECT_LIMIT, "headline": 120, "url_path": 1000}
_LIMIT = 100
_NAME_LIMIT = 60
_FAKED_REPLY = re.compile(r"^(?:(?:re|fwd?|aw|wg|sv|antw)\s*:\s*)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Links:
    """Where the mail leads. ``frontend`` is the dashboard's base, the others are complete addresses."""

    frontend: str
    unsubscribe: str
    unsubscribe_all: str
    preferences: str

    def to(self, path: str) -> str:
        """A page of the dashboard; whatever the path holds, it stays below the dashboard's address."""
        return f"{self.frontend}/{quote(path.lstrip('/'), safe='/?=&-._~')}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The same content three times over."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class _Folder:
    subject: Template
    text: Template
    html: Template


class Renderer:
    """Compiles every template once; a folder below ``templates`` is one mail."""

    def __init__(self, brand: str) -> None:
        text = Environment(
            loader=BaseLoader(),
            undefined=StrictUndefined,
            autoescape=False,  # noqa: S701 — plain text; HTML has its own environment below
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        # An HTML parser moves {% for %} out of tables, where the loop silently vanishes; comments stay.
        html = Environment(
            loader=BaseLoader(),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            block_start_string="<!--%",
            block_end_string="%-->",
            comment_start_string="<!--#",
            comment_end_string="#-->",
        )
        self._brand = clean(brand)
        folders = sorted(path for path in _FOLDER.iterdir() if path.is_dir())
        self._folders = {folder.name: _compile(folder, text, html) for folder in folders}

    def render(
        self,
        template: str,
        facts: Mapping[str, Any],
        *,
        locale: str,
        name: str,
        links: Links,
        kind: Kind,
        reason: str = "",
    ) -> Rendered:
        """Print the facts. ``KeyError``: no such template; ``UndefinedError``: a fact is missing."""
        folder = self._folders[template]
        words = words_for(locale)
        told = fitted(tidy(facts))
        told |= self._frame(words, links, kind, name=name, reason=reason)
        subject = as_subject(folder.subject.render(told), words)
        told["subject"] = subject
        return Rendered(subject, folder.text.render(told), folder.html.render(told))

    def _frame(self, words: Words, links: Links, kind: Kind, *, name: str, reason: str) -> dict[str, Any]:
        return {
            "w": words,
            "links": links,
            "kind": kind,
            "brand": self._brand,
            "name": shorten(clean(name), _NAME_LIMIT),
            "reason": clean(reason) or words.reasons[kind],
        }


def tidy(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with every text cleaned and shortened to what a reader can take in."""
    return {key: _tidied(value, _LIMITS.get(key, _LIMIT)) for key, value in facts.items()}


def _tidied(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return shorten(clean(value), limit)
    if isinstance(value, Mapping):
        return tidy(value)
    if isinstance(value, list | tuple):
        return [_tidied(item, limit) for item in value]
    return value


def fitted(facts: dict[str, Any]) -> dict[str, Any]:
    """At most ``GOALS_SHOWN`` goals over all sections; the rest is added to ``more``."""
    if not {"sections", "more"} <= facts.keys():
        return facts  # another kind of mail, or a mistake that printing will name
    room, hidden, sections = GOALS_SHOWN, 0, []
    for section in facts["sections"]:
        goals = section["goals"][:room]
        hidden += len(section["goals"]) - len(goals)
        room -= len(goals)
        if goals:
            sections.append(section | {"goals": goals})
    return facts | {"sections": sections, "more": facts["more"] + hidden}


def as_subject(text: str, words: Words) -> str:
    """One line of 3–78 characters that does not pretend to be an answer."""
    subject = shorten(_FAKED_REPLY.sub("", clean(text)), SUBJECT_LIMIT)
    return subject if len(subject) >= 3 else words.default_subject


def _compile(folder: Path, text: Environment, html: Environment) -> _Folder:
    """Layout and body are joined first: the inliner must see the whole page."""
    page = _within("layout.html", folder / "body.html").replace(
        "@@preheader@@", _read(folder / "preheader.html")
    )
    return _Folder(
        subject=text.from_string(_read(folder / "subject.txt")),
        text=text.from_string(_within("layout.txt", folder / "body.txt") + "\n"),
        html=html.from_string(_inlined(page)),
    )


def _read(path: Path) -> str:
    return path.read_text("utf-8").rstrip("\n")


def _within(layout: str, body: Path) -> str:
    return _read(_FOLDER / layout).replace("@@content@@", _read(body))


def _inlined(page: str) -> str:
    inliner = CSSInliner(extra_css=_read(_FOLDER / "mail.css"), load_remote_stylesheets=False)
    dark = " ".join(_read(_FOLDER / "dark.css").split())
    # Media queries cannot be inlined; the inliner drops them, so they go in afterwards.
    whole = inliner.inline(page).replace("</head>", f"<style>{dark}</style>\n</head>")
    return re.sub(r"\n\s+", "\n", whole)
