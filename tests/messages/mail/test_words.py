"""Words, dates and numbers in every shipped language, and catalogues that lack nothing."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from service.messages.mail.words import LANGUAGES, language_of, words_for
from tests.acme import KINDS
from tests.messages.mail.cast import composer, letter, one_goal
from tests.messages.mail.reading import Page, parsed, part
from tests.samples import SAMPLES, MailSample

ROOT = Path(__file__).parents[3]
CATALOGUES = sorted((ROOT / "service/messages/mail/catalogues").glob("*.po"))
NARROW = "\u00a0"


def _messages() -> set[str | tuple[str, ...]]:
    """Every text that somebody may read, found as Babel is configured to find it."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["babel"]["mappings"]
    methods, options = [], {}
    for mapping in mappings:
        patterns = mapping["pattern"] if isinstance(mapping["pattern"], list) else [mapping["pattern"]]
        for pattern in patterns:
            methods.append((pattern, mapping["method"]))
            options[pattern] = {k: v for k, v in mapping.items() if k not in {"method", "pattern"}}
    keywords: Any = {"_": None, "gettext": None, "N_": None, "ngettext": (1, 2)}
    found = extract_from_dir(ROOT, methods, options, keywords=keywords, directory_filter=_ours)
    return {message for _, _, message, _, _ in found if message}


def _ours(path: str | Path) -> bool:
    return not any(part.startswith(".") or part in {"data", "artefacts"} for part in Path(path).parts[-1:])


def _forms(text: Any) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)s", text))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_translates_every_message_and_nothing_else(path: Path) -> None:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.stem)

    translated = {message.id: message for message in catalogue if message.id}

    assert translated.keys() == _messages()
    assert not catalogue.obsolete
    for message in translated.values():
        sources, forms = _forms(message.id), _forms(message.string)
        assert not message.fuzzy
        assert len(forms) == (1 if len(sources) == 1 else catalogue.num_plurals)
        for form in forms:
            assert form
            assert _placeholders(form) == _placeholders(sources[-1])


def test_the_language_of_a_locale_is_a_shipped_one_or_english() -> None:
    assert set(LANGUAGES) >= {"en", "de"}
    assert [language_of(tag) for tag in ("de", "de-AT", "de_CH", "DE", "fr", "")] == ["de"] * 4 + ["en"] * 2


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            ["Tue 10 Mar", "2 – 8 Mar", "30 Mar – 5 Apr", "3 h 25 min", "25 min", "2 h", "1,234.5",
             "in 1 day", "3 days ago", "today", f"12{NARROW}% more", "new", ""],
        ),
        (
            "de",
            ["Di. 10. März", "2. – 8. März", "30. März – 5. Apr.", "3 Std. 25 Min.", "25 Min.", "2 Std.",
             "1.234,5", "in 1 Tag", "vor 3 Tagen", "heute", f"12{NARROW}% mehr", "neu", ""],
        ),
    ],
)  # fmt: skip
def test_dates_numbers_and_spans_are_said_as_the_language_does(language: str, said: list[str]) -> None:
    w = words_for(language)

    assert [
        w.day("2026-03-10"),
        w.dates("2026-03-02", "2026-03-08"),
        w.dates("2026-03-30", "2026-04-05"),
        w.duration(12_300),
        w.duration(1500),
        w.duration(7200),
        w.number(1234.5),
        w.when(1),
        w.when(-3),
        w.when(0),
        w.change(12),
        w.change("new"),
        w.change(None),
    ] == said


def test_zero_has_no_sign_whichever_zero_was_told_before() -> None:
    w = words_for("en")

    assert [w.number(value) for value in (-0.0, 0, 0.0, -0.0)] == ["0"] * 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_suggestion_has_words(language: str) -> None:
    w = words_for(language)
    rules: list[dict[str, Any]] = [
        {"rule": "goal_behind", "title": "Read", "days": 3, "percent": 40},
        {"rule": "begin_small"},
        {"rule": "longer_sessions"},
        {"rule": "one_more_day"},
        {"rule": "best_day", "date": "2026-03-10"},
        {"rule": "keep_going"},
    ]

    said = {w.suggestion(rule) for rule in rules}

    assert len(said) == len(rules)
    assert all("%(" not in sentence for sentence in said)
    assert "%(" not in w.final({"focus_seconds": 3600, "sessions": 1})


def test_a_german_reader_gets_a_german_mail() -> None:
    raw = composer().compose(letter(one_goal("Zehn Bücher lesen"), locale="de-AT"))

    assert parsed(raw)["Subject"] == "Morgen fällig: Zehn Bücher lesen"
    assert str(parsed(raw)["List-Id"]).startswith("Erinnerungen an Fristen ")
    assert '<html lang="de"' in part(raw, "html")
    assert "Mi. 11. März · in 1 Tag" in part(raw, "plain")
    assert f"3 / 10 books (30{NARROW}%)" in part(raw, "plain")
    notice = composer().notice("weekly_review", {"focus_seconds": 3600, "goals_done": 1}, "de")
    assert (notice.title, notice.message) == ("Deine Woche", "1 Std. Fokus, 1 Ziel erreicht")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_has_a_name_a_hint_a_reason_and_an_end(language: str) -> None:
    w = words_for(language)

    for say in (w.list_name, w.hint, w.reason, w.stop):
        assert len({say(kind) for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(("language", "word"), [("en", "unsubscribe"), ("de", "abbestellen")])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_each_mail_says_in_these_words_how_to_get_no_more(
    sample: MailSample, language: str, word: str
) -> None:
    raw = composer().compose(
        letter(dict(sample.facts), template=sample.template, job=sample.job, locale=language)
    )

    links = re.findall(r"^(.+):\n(https://\S+/u/\S+)$", part(raw, "plain"), re.MULTILINE)
    assert [address.partition("?")[2] for _, address in links] == ["", "all=1"]
    assert all(word in text.lower() for text, _ in links)
    html = Page(part(raw, "html"))
    assert " ".join(html.words).lower().count(word) == 2
