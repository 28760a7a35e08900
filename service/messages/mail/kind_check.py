"""Checks that a kind of message has all its texts, in every language."""

from collections.abc import Iterator

from jinja2 import TemplateError
from jinja2.ext import extract_from_ast

from service.messages.kind import MessageKind
from service.messages.mail.render import MAIL_FILES, MailLinks, Renderer, environments
from service.messages.mail.sample_goals import RECIPIENT
from service.messages.mail.words import LANGUAGES, translated_texts, words_for

_LINKS = MailLinks(*["https://dashboard.example.org"] * 4)


def kind_problems(kind: MessageKind) -> list[str]:
    """What is missing or wrong, a sentence each: words, templates, translations, samples."""
    problems = [
        f"the kind has no {name}" for name in ("label", "hint", "reason", "stop") if not getattr(kind, name)
    ]
    problems += [f"{kind.mail / name} is missing" for name in MAIL_FILES if not (kind.mail / name).is_file()]
    if not kind.samples:
        problems.append("the kind has no sample, which previews and tests need")
    if problems:
        return problems
    try:
        renderer = Renderer("Dashboard", [kind])
    except TemplateError as error:
        return [f"a template in {kind.mail} cannot be read: {error}"]
    return [*_unprintable(kind, renderer), *_untranslated(kind)]


def _unprintable(kind: MessageKind, renderer: Renderer) -> Iterator[str]:
    """Each sample that does not fit the templates."""
    for sample in kind.samples:
        try:
            renderer.render(kind.template, sample.facts, locale="en", name=RECIPIENT, links=_LINKS)
        except (TemplateError, KeyError, TypeError) as error:
            yield f"the sample {sample.variant!r} cannot be rendered: {error}"


def _untranslated(kind: MessageKind) -> Iterator[str]:
    """Each text without a translation, by language."""
    texts = set(_texts(kind))
    for language in LANGUAGES:
        if language != "en":
            for text in sorted(texts - translated_texts(language, kind.catalogues)):
                yield f"{language}.po has no translation of {text!r}"


def _texts(kind: MessageKind) -> Iterator[str]:
    """The English texts of a kind, in its words and in its templates; of plurals the singular."""
    yield from (kind.label, kind.hint, kind.reason, kind.stop)
    text, html = environments(words_for("en"))
    for name in MAIL_FILES:
        environment = html if name.endswith(".html") else text
        source = environment.parse((kind.mail / name).read_text("utf-8"))
        for _, _, message in extract_from_ast(source):
            yield message if isinstance(message, str) else str((message or ("",))[0])
