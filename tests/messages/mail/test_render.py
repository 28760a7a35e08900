"""What a reader sees: the same in text and HTML, legible in light and dark, nothing from elsewhere."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from service.messages.mail.render import RenderedMail, as_subject
from service.messages.mail.sample_goals import sample_goal
from service.messages.mail.words import words_for
from service.text import clean, shorten
from tests.messages.mail.cast import composer, one_goal, six_goals
from tests.messages.mail.reading import Page, addresses, said

SNAPSHOTS = Path(__file__).parent / "snapshots"
TEMPLATES = Path(__file__).parents[3] / "service/messages/mail/templates"


def rendered(facts: dict[str, Any], name: str = "Ada Lovelace") -> RenderedMail:
    made = composer()
    return made.render(
        "goal_deadlines", facts, locale="en", name=name, links=made.links("Zx8QmN3vR5tY7uI9oP1aSd")
    )


CASES = {"six_goals": six_goals(), "one_goal": one_goal("Read <ten> books & 🎯 نص")}


@pytest.mark.parametrize("case", CASES)
def test_the_mail_looks_as_it_was_agreed(case: str) -> None:
    """``UPDATE_SNAPSHOTS=1`` writes the agreed texts anew: look at the difference before committing it."""
    mail = rendered(CASES[case])

    for name, content in ((f"{case}.txt", f"{mail.subject}\n\n{mail.text}"), (f"{case}.html", mail.html)):
        if os.environ.get("UPDATE_SNAPSHOTS") == "1":
            SNAPSHOTS.mkdir(exist_ok=True)
            (SNAPSHOTS / name).write_text(content, "utf-8")
        assert content == (SNAPSHOTS / name).read_text("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_text_and_html_say_the_same_words_and_lead_to_the_same_places(case: str) -> None:
    mail = rendered(CASES[case])

    page = Page(mail.html)

    assert page.words == said(mail.text)
    assert page.links == addresses(mail.text)


def test_every_fact_is_in_the_text() -> None:
    text = rendered(six_goals()).text

    w = words_for("en")
    for section in six_goals()["sections"]:
        assert w.section(section["key"]) in text
        for each in section["goals"]:
            assert each["title"] in text
            assert w.when(each["days"]) in text
            assert w.progress(each) in text
            assert f"https://dashboard.example{each['url_path']}" in text
    assert "Wed 11 Mar · in 1 day\n3 / 10 books (30\u00a0%)" in text
    assert "+2 more" in text


def test_the_footer_says_why_and_how_to_stop() -> None:
    mail = rendered(one_goal())

    assert "You get this because" in mail.text
    assert Page(mail.html).links[-3:] == [
        "https://jobs.dashboard.example/preferences/Zx8QmN3vR5tY7uI9oP1aSd",
        "https://jobs.dashboard.example/u/Zx8QmN3vR5tY7uI9oP1aSd",
        "https://jobs.dashboard.example/u/Zx8QmN3vR5tY7uI9oP1aSd?all=1",
    ]


def test_the_own_reason_of_a_letter_replaces_that_of_its_kind() -> None:
    made = composer()

    mail = made.render(
        "goal_deadlines",
        one_goal(),
        locale="en",
        name="",
        links=made.links("t" * 22),
        reason="You asked for a test mail.",
    )

    assert "You asked for a test mail." in mail.text
    assert "You get this because" not in mail.html


def test_somebody_without_a_name_is_greeted_too() -> None:
    assert "\nHello, this is what is due" in rendered(one_goal(), name=" \u202e ").text


@pytest.mark.parametrize("missing", ["count", "tomorrow", "local_date", "sections", "more"])
def test_a_missing_fact_raises_instead_of_printing_nothing(missing: str) -> None:
    facts = six_goals()
    del facts[missing]

    with pytest.raises((UndefinedError, TypeError, KeyError)):
        rendered(facts)


@pytest.mark.parametrize("missing", ["title", "due", "days", "percent", "current", "url_path"])
def test_a_goal_without_one_of_its_facts_raises(missing: str) -> None:
    facts = one_goal()
    del facts["sections"][0]["goals"][0][missing]

    with pytest.raises((UndefinedError, TypeError, KeyError)):
        rendered(facts)


def test_an_unknown_template_raises() -> None:
    made = composer()

    with pytest.raises(KeyError):
        made.render("nowhere", {}, locale="en", name="", links=made.links("t" * 22))


@pytest.mark.parametrize(
    ("percent", "widths"),
    [(0, ["100%"]), (30, ["30%", "70%"]), (100, ["100%"]), (None, [])],
)
def test_the_bar_leaves_out_empty_cells(percent: int | None, widths: list[str]) -> None:
    facts = one_goal()
    facts["sections"][0]["goals"] = [sample_goal(1, "Read", "2026-03-11", 1, percent, None)]

    html = rendered(facts).html

    assert re.findall(r'class="(?:fill|rest)"[^>]* width="(\d+%)"', html) == widths


def test_a_link_stays_below_the_dashboard_whatever_the_id_holds() -> None:
    facts = one_goal()
    facts["sections"][0]["goals"][0]["url_path"] = '//evil.example/"><script>\r\n@x'

    [first, *_] = Page(rendered(facts).html).links

    assert first.startswith("https://dashboard.example/evil.example/%22%3E%3Cscript%3E")


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    html = rendered(six_goals()).html

    assert not re.search(r"<img|<script|<link|<iframe|<svg|<form|url\(|@import|src=|background=", html, re.I)
    assert not re.search(r"display:\s*(?:flex|grid)|var\(--", html)
    assert len(html.encode()) < 20_000


def test_the_page_can_be_read_aloud() -> None:
    html = rendered(six_goals()).html
    headings = re.findall(r"<(h\d)", html)

    assert '<html lang="en" dir="ltr">' in html
    assert "<title>8 goals due soon, 2 tomorrow</title>" in html
    assert headings == ["h1", "h2", "h2", "h2", "h2", "h2"]
    assert html.count("<table") == html.count('role="presentation"')


def test_the_preheader_is_hidden_in_the_way_that_costs_no_spam_points() -> None:
    html = rendered(six_goals()).html

    [style] = re.findall(r'<div class="preheader" style="([^"]+)"', html)
    assert style == "display: none;max-height: 0;overflow: hidden;mso-hide: all;"
    assert "font-size: 0" not in html


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("sheet", "grounds", "button"),
    [
        ("mail.css", ("#ffffff", "#f3f5f8"), ("#ffffff", "#2f5fe0")),
        ("dark.css", ("#181d24", "#0f1216"), ("#0f1216", "#8fb0ff")),
    ],
)
def test_all_text_has_enough_contrast(sheet: str, grounds: tuple[str, str], button: tuple[str, str]) -> None:
    css = (TEMPLATES / sheet).read_text("utf-8")
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", css)
    inks = [
        ink
        for selector, body in rules
        if ".button a" not in selector
        for ink in re.findall(r"(?<![-\w])color: (#\w{6})", body)
    ]

    assert len(inks) >= 3
    assert all(contrast(ink, ground) >= 4.5 for ink in inks for ground in grounds)
    assert contrast(*button) >= 4.5
    assert all(colour in css for colour in button)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("Due tomorrow: Read all of Proust", 24, "Due tomorrow: Read all…"),
        ("a word, then comma", 8, "a word…"),
        ("Donaudampfschifffahrt", 10, "Donaudamp…"),
        ("e\u0301e\u0301e\u0301e\u0301", 6, "e\u0301e\u0301…"),
        ("ab👩‍👩‍👧", 5, "ab…"),
        ("ab👍🏽 yes it is", 4, "ab…"),
    ],
)
def test_a_long_text_is_cut_where_it_hurts_least(text: str, limit: int, expected: str) -> None:
    assert shorten(text, limit) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("  two   spaces ", "two spaces"),
        ("line\r\nbreak", "line break"),
        ("a\u00a0b", "a b"),
        ("\u202egnp.exe", "gnp.exe"),
        ("nul\0bell\x07", "nulbell"),
        ("zero\u200bwidth", "zerowidth"),
        ("👩‍👧 stays", "👩‍👧 stays"),
        ("می‌خواهم", "می‌خواهم"),
        ("half \ud83d", "half"),
    ],
)
def test_typed_text_becomes_one_printable_line(typed: str, expected: str) -> None:
    assert clean(typed) == expected


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Re: news", "Due tomorrow: Re: news"),
        ("\u202e\0", "Due tomorrow: Untitled goal"),
        ("very " * 30 + "long", "Due tomorrow: " + "very " * 11 + "very…"),
    ],
)
def test_a_subject_is_of_a_fitting_length(title: str, expected: str) -> None:
    assert rendered(one_goal(title)).subject == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Re: RE: Fwd: news", "news"), ("x", "A reminder for you"), ("\u202e\0", "A reminder for you")],
)
def test_a_subject_does_not_pretend_to_be_an_answer(text: str, expected: str) -> None:
    assert as_subject(text, words_for("en")) == expected


def test_locales_without_a_catalogue_are_spoken_to_in_english() -> None:
    assert words_for("fr_CA") is words_for("") is words_for("en")
    assert words_for("en").day("2026-03-10") == "Tue 10 Mar"
