"""Renders stored facts as the three texts of a mail: subject, plain text, HTML."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from css_inline import CSSInliner
from jinja2 import BaseLoader, Environment, StrictUndefined, Template, TemplateError

from service.messages.kind import MessageKind
from service.messages.mail.words import LANGUAGES, Words, language_of, words_for
from service.text import clean, shorten

SUBJECT_LIMIT = 78
MAX_GOALS = 25
"""With more goals a mail may exceed the size at which large providers clip it, unsubscribe link included."""

_FOLDER = Path(__file__).parent / "templates"
MAIL_FILES = ("subject.txt", "body.txt", "body.html", "preheader.html", "in_app.txt")
"""The template files of a kind."""
_LIMITS = {"subject": SUBJECT_LIMIT, "headline": 120, "url_path": 1000}
_LIMIT = 100
_NAME_LIMIT = 60
_BLANK_LINES = re.compile(r"\n{3,}")
_FAKED_REPLY = re.compile(r"^(?:(?:re|fwd?|aw|wg|sv|antw)\s*:\s*)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MailLinks:
    """The links of a mail. ``frontend``: the base URL of the dashboard; the others are complete URLs."""

    frontend: str
    unsubscribe: str
    unsubscribe_all: str
    preferences: str

    def to(self, path: str) -> str:
        """The URL of a page of the dashboard; no path can lead elsewhere."""
        return f"{self.frontend}/{quote(path.lstrip('/'), safe='/?=&-._~')}"


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """A rendered mail."""

    subject: str
    text: str
    html: str


RenderError = TemplateError
"""A template and the facts do not fit together."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The text of an in-app notification."""

    title: str
    message: str
    button: str


RenderNotice = Callable[[str, Mapping[str, Any], str], Notice]
"""Renders an in-app notification: (template, facts, locale) → title, message and button."""


@dataclass(frozen=True, slots=True)
class _Texts:
    """The compiled templates of one kind in one language."""

    kind: MessageKind
    words: Words
    subject: Template
    text: Template
    html: Template
    in_app: Template


class Renderer:
    """Compiles the templates of each kind once for each language."""

    def __init__(self, brand: str, kinds: Iterable[MessageKind]) -> None:
        self._brand = clean(brand)
        self._texts = {
            (kind.template, language): texts
            for kind in kinds
            for language, texts in _texts_by_language(kind, _page(kind.mail)).items()
        }

    def kind(self, template: str) -> MessageKind:
        """The kind whose texts these are. ``KeyError``: no such template."""
        return self._texts[template, "en"].kind

    def render(
        self,
        template: str,
        facts: Mapping[str, Any],
        *,
        locale: str,
        name: str,
        links: MailLinks,
        reason: str = "",
    ) -> RenderedMail:
        """Render the facts. ``KeyError``: no such template; ``UndefinedError``: a fact is missing."""
        texts = self._texts[template, language_of(locale)]
        context = limit_goals(cleaned_facts(facts)) | self._frame(texts, links, name=name, reason=reason)
        subject = as_subject(texts.subject.render(context), texts.words)
        context["subject"] = subject
        text = _BLANK_LINES.sub("\n\n", texts.text.render(context))
        return RenderedMail(subject, text, texts.html.render(context))

    def notice(self, template: str, facts: Mapping[str, Any], locale: str) -> Notice:
        """Render an in-app notification: title of at most 100 characters, message 500, button 30."""
        texts = self._texts[template, language_of(locale)]
        text = texts.in_app.render(cleaned_facts(facts) | {"w": texts.words})
        title, message, button = (line for line in text.split("\n") if line.strip())
        return Notice(shorten(title, 100), shorten(message, 500), shorten(button, 30))

    def _frame(self, texts: _Texts, links: MailLinks, *, name: str, reason: str) -> dict[str, Any]:
        return {
            "w": texts.words,
            "links": links,
            "kind": texts.kind,
            "brand": self._brand,
            "name": shorten(clean(name), _NAME_LIMIT),
            "reason": clean(reason) or texts.words.reason(texts.kind),
        }


def cleaned_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with every text cleaned and shortened."""
    return {key: _cleaned(value, _LIMITS.get(key, _LIMIT)) for key, value in facts.items()}


def _cleaned(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return shorten(clean(value), limit)
    if isinstance(value, Mapping):
        return cleaned_facts(value)
    if isinstance(value, list | tuple):
        return [_cleaned(item, limit) for item in value]
    return value


def limit_goals(facts: dict[str, Any]) -> dict[str, Any]:
    """At most ``MAX_GOALS`` goals over all sections; the rest is added to ``more``.

    ``count`` of a section: all its goals, shown or not. Goals that the job left out count as due soon.
    """
    if not {"sections", "more"} <= facts.keys():
        return facts  # another kind of mail, or an error that rendering will report
    room, hidden, sections = MAX_GOALS, 0, []
    for section in facts["sections"]:
        goals = section["goals"][:room]
        hidden += len(section["goals"]) - len(goals)
        room -= len(goals)
        if goals:
            omitted = facts["more"] if section["key"] == "also" else 0
            count = len(section["goals"]) + omitted
            sections.append(section | {"goals": goals, "count": count})
    return facts | {"sections": sections, "more": facts["more"] + hidden}


def as_subject(text: str, words: Words) -> str:
    """One line of 3 to 78 characters, without a prefix such as ``Re:``."""
    subject = shorten(_FAKED_REPLY.sub("", clean(text)), SUBJECT_LIMIT)
    return subject if len(subject) >= 3 else words.default_subject


def environments(words: Words) -> tuple[Environment, Environment]:
    """The environments for plain text and for HTML, in one language."""
    text = Environment(
        loader=BaseLoader(),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 — plain text; HTML has its own environment below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    # An HTML parser moves {% for %} out of tables and so loses the loop; comments stay where they are.
    html = Environment(
        loader=BaseLoader(),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        block_start_string="<!--%",
        block_end_string="%-->",
        comment_start_string="<!--#",
        comment_end_string="#-->",
        extensions=["jinja2.ext.i18n"],
    )
    for environment in (text, html):
        environment.install_gettext_translations(words.catalogue, newstyle=True)  # type: ignore[attr-defined]
    return text, html


def _page(folder: Path) -> str:
    """Layout, parts and body are joined first: the inliner must see the whole page."""
    page = _in_layout("layout.html", folder / "body.html")
    page = page.replace("@@parts@@", _read(_FOLDER / "parts.html"))
    return _with_inline_css(page.replace("@@preheader@@", _read(folder / "preheader.html")))


def _texts_by_language(kind: MessageKind, page: str) -> dict[str, _Texts]:
    """By language."""
    return {tag: _texts(kind, page, words_for(tag, kind.catalogues)) for tag in LANGUAGES}


def _texts(kind: MessageKind, page: str, words: Words) -> _Texts:
    text, html = environments(words)
    folder = kind.mail
    return _Texts(
        kind=kind,
        words=words,
        subject=text.from_string(_read(folder / "subject.txt")),
        text=text.from_string(_in_layout("layout.txt", folder / "body.txt") + "\n"),
        html=html.from_string(page),
        in_app=text.from_string(_read(folder / "in_app.txt")),
    )


def _read(path: Path) -> str:
    return path.read_text("utf-8").rstrip("\n")


def _in_layout(layout: str, body: Path) -> str:
    return _read(_FOLDER / layout).replace("@@content@@", _read(body))


def _with_inline_css(page: str) -> str:
    inliner = CSSInliner(extra_css=_read(_FOLDER / "mail.css"), load_remote_stylesheets=False)
    dark = " ".join(_read(_FOLDER / "dark.css").split())
    # Media queries cannot be inlined; the inliner drops them, so they go in afterwards.
    whole = inliner.inline(page).replace("</head>", f"<style>{dark}</style>\n</head>")
    return re.sub(r"\n\s+", "\n", whole)
