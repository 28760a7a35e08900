"""A mail on the wire: exact headers, clean bytes whatever people type, the same bytes every time."""

import email
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.mail_address import mail_address, valid_address
from service.messages.mail.compose import Composer
from tests.kinds import KINDS
from tests.messages.mail.cast import composer, letter, one_goal, six_goals
from tests.messages.mail.reading import Page, addresses, check_wire, parsed, part, said
from tests.samples import SAMPLES, MailSample

HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)> & \"quotes\" 'single'",
    "a template": "{{ 7 * 7 }} {% raw %} <!--% for x in y %-->",
    "a header injection": "Books\r\nBcc: everybody@example.org\r\n\r\nHello",
    "bare line ends": "one\ntwo\rthree\x0bfour\x0cfive\x85six\u2028seven\u2029eight",
    "a smuggled end of data": "x\r\n.\r\nMAIL FROM:<evil@example.org>",
    "bidi controls": "\u202egnp.exe\u202c \u2066isolate\u2069 \u200f\u200e\u061c end",
    "emoji": "👩‍👩‍👧‍👦 family, 🏴󠁧󠁢󠁳󠁣󠁴󠁿 flag, 👍🏽 thumb " * 4,
    "NUL and controls": "a\0b\x01c\x1bd\x7fe\x9ff",
    "lone surrogates": "half \ud83d of an emoji",
    "ten kilobytes": "long " * 2000,
    "one long word": "x" * 10_000,
    "ten kilobytes of emoji": "🎯" * 2500,
    "an encoded word": "=?utf-8?q?faked?= =?x",
    "right to left": "قراءة عشرة كتب",
    "chinese": "读十本书，然后写一篇很长很长的读书报告" * 6,
    "accents in pieces": "e\u0301" * 300,
    "a boundary": "--=_ab492b95c89f4af76a7ddf2e9d8cbd7c--",
    "a lone dot": ".",
    "from": "From the beginning",
    "nothing": "",
    "only controls": "\u202e\u200b\0",
}
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def subject_of(title: str) -> str:
    """The subject before it was encoded."""
    made = composer()
    facts = one_goal(title)
    return made.render("goal_deadlines", facts, locale="en", name="", links=made.links("t" * 22)).subject


@pytest.mark.parametrize("typed", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_people_type_the_bytes_stay_a_correct_mail(typed: str) -> None:
    raw = composer().compose(letter(one_goal(typed), recipient_name=typed))

    check_wire(raw)
    for kind in ("plain", "html"):
        assert not FORBIDDEN.search(part(raw, kind))
    subject = parsed(raw)["Subject"]
    assert subject == subject_of(typed)
    assert not FORBIDDEN.search(subject)
    page = Page(part(raw, "html"))
    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert page.words == said(part(raw, "plain"))
    assert page.links == addresses(part(raw, "plain"))


def any_title_makes_a_correct_mail(title: str, name: str) -> None:
    raw = composer().compose(letter(one_goal(title), recipient_name=name))

    check_wire(raw)
    assert Page(part(raw, "html")).links == addresses(part(raw, "plain"))
    assert parsed(raw)["Subject"] == subject_of(title)


_ANYTHING = st.text(st.characters(codec=None), max_size=200)


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(_ANYTHING, _ANYTHING)
def test_any_title_and_name_make_a_correct_mail(title: str, name: str) -> None:
    any_title_makes_a_correct_mail(title, name)


@pytest.mark.long(only=True)
def test_thousands_of_titles_and_names_make_correct_mails() -> None:
    check = settings(max_examples=4000, derandomize=True, deadline=None)
    check(given(_ANYTHING, _ANYTHING)(any_title_makes_a_correct_mail))()


def test_the_headers_are_exactly_these() -> None:
    raw = composer().compose(letter())

    assert raw.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n") == [
        "To: Ada Lovelace <ada@example.org>",
        "Subject: 8 goals due soon, 2 tomorrow",
        "Date: Tue, 10 Mar 2026 08:00:00 +0000",
        "Message-ID: <5d41402abc4b2a76b9719d911017c592@dashboard.example>",
        "List-Unsubscribe: <https://jobs.dashboard.example/u/Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "From: Dashboard <hello@dashboard.example>",
        "Reply-To: Support <support@dashboard.example>",
        "List-Id: Deadline reminders <deadlines.dashboard.example>",
        "Feedback-ID: goalDeadlines:deadlines:reminder:dashboard",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "MIME-Version: 1.0",
        'Content-Type: multipart/alternative; boundary="=_ab492b95c89f4af76a7ddf2e9d8cbd7c"',
    ]


def test_mails_unsubscribe_too_where_something_reads_them() -> None:
    made = Composer(
        "https://f.example", "https://j.example", "D <hello@f.example>", KINDS.values(),
        reply_to="Support <support@f.example>", bounce_address="bounce+jobs@f.example",
    )  # fmt: skip

    raw = made.compose(letter(token="abcdefghijklmnopqrstuvwxyz"))

    check_wire(raw)
    assert raw.decode("ascii").partition("List-Unsubscribe: ")[2].split("\r\n")[:2] == [
        "<https://j.example/u/abcdefghijklmnopqrstuvwxyz>,",
        " <mailto:bounce+jobs+u-abcdefghijklmnopqrstuvwxyz@f.example>",
    ]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_kind_has_its_list_and_its_words(sample: MailSample) -> None:
    raw = composer().compose(letter(dict(sample.facts), template=sample.template, job=sample.job))

    check_wire(raw)
    assert f"<{sample.kind}.dashboard.example>" in parsed(raw)["List-Id"]


def display_name(raw: bytes) -> str:
    """As RFC 2047 has it; ``policy.default`` leaves spaces between the encoded words of a phrase."""
    phrase = str(email.message_from_bytes(raw)["To"]).rpartition("<")[0].strip()
    if phrase.startswith('"'):
        return re.sub(r"\\(.)", r"\1", phrase[1:-1])
    return str(make_header(decode_header(phrase)))


@pytest.mark.parametrize(
    "name",
    [
        "Ada Lovelace",
        'Quote " and \\ backslash',
        "Comma, Semicolon; <angle@brackets.example>",
        "Zoë Größenwahn",
        "愛" * 60,
        "=?utf-8?q?x?=",
        "Bob (the builder) @ work",
        "A" * 60,
    ],
)
def test_a_name_arrives_as_it_was_typed(name: str) -> None:
    raw = composer().compose(letter(recipient_name=name))

    check_wire(raw)
    assert parsed(raw)["To"].addresses[0].addr_spec == "ada@example.org"
    assert display_name(raw) == name


def test_equal_letters_make_equal_bytes_also_in_another_process() -> None:
    code = (
        "import sys; from tests.messages.mail.cast import composer, letter;"
        "sys.stdout.buffer.write(composer().compose(letter()))"
    )
    here = composer().compose(letter())

    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
        )
        assert there.stdout == here


def test_the_same_instant_in_another_zone_is_the_same_mail() -> None:
    in_tokyo = datetime(2026, 3, 10, 17, 0, tzinfo=timezone(timedelta(hours=9)))

    assert composer().compose(letter(message_date=in_tokyo)) == composer().compose(letter())


def test_another_message_has_another_boundary() -> None:
    other = composer().compose(letter(message_id="0" * 32 + "@dashboard.example"))

    assert parsed(other).get_boundary() != parsed(composer().compose(letter())).get_boundary()


def test_a_mail_about_hundreds_of_goals_keeps_its_end() -> None:
    facts = six_goals()
    facts["sections"][0]["goals"] *= 300
    facts["sections"][0]["goals"][0]["title"] = "🎯" * 500

    raw = composer().compose(letter(facts))

    check_wire(raw)
    assert "+581 more" in part(raw, "plain")
    assert "/u/Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr?all=1" in part(raw, "html")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "ada@",
        "@example.org",
        "ada@example",
        "ada@example.org\r\nBcc: x@example.org",
        "ada@example.org\n",
        "ada\0@example.org",
        "ada lovelace@example.org",
        "zo\u202eb@example.org",
        "zo\u00a0e@example.org",
        "zoë@ä",
        "ada@-ä.example",
        "ada@ä..example",
        "ada@＠.example",
        "ada@127.0.0.１",
        f"{'é' * 33}@example.org",
        f"ada@{'ä' * 60}.example",
        "<ada@example.org>",
        "ada@@example.org",
        ".ada@example.org",
        "ada..l@example.org",
        "ada@-example.org",
        "ada@example.org.",
        "ada@127.0.0.1",
        "a@example.org,b@example.org",
        f"{'a' * 65}@example.org",
        f"ada@{'a' * 64}.org",
        f"ada@{'a.' * 130}org",
    ],
)
def test_a_malformed_address_is_refused(address: str) -> None:
    assert not valid_address(address)
    with pytest.raises(ValueError, match="address"):
        composer().compose(letter(address=address))


@pytest.mark.parametrize(
    "address",
    ["ada@example.org", "A.b+c_d@Sub.Example.co.uk", "o'hara@example.org", "root@localhost", "a@xn--4ca.org"],
)
def test_a_usual_address_is_taken_as_it_is(address: str) -> None:
    assert valid_address(address)
    assert mail_address(address) == address


@pytest.mark.parametrize(
    ("typed", "sent_to"),
    [
        ("ada@Exämple.org", "ada@xn--exmple-cua.org"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("zoë@example.org", "zoë@example.org"),
        ("zoe\u0308@Example.org", "zoë@Example.org"),
        ("用户@例え。テスト", "用户@xn--r8jz45g.xn--zckzah"),
    ],
)
def test_an_international_address_is_as_mail_servers_know_it(typed: str, sent_to: str) -> None:
    assert mail_address(typed) == sent_to
    assert mail_address(sent_to) == sent_to


def test_only_an_international_mailbox_makes_a_header_8_bit() -> None:
    """RFC 6532: and only that header."""
    check_wire(composer().compose(letter(address="ada@xn--exmple-cua.org")))

    raw = composer().compose(letter(address="zoë@xn--exmple-cua.org", recipient_name="Zoë 愛"))

    eight_bit = [line.decode() for line in raw.split(b"\r\n") if not line.isascii()]
    assert eight_bit == ["To: =?utf-8?q?Zo=C3=AB_=E6=84=9B?= <zoë@xn--exmple-cua.org>"]
    message = email.message_from_string(raw.decode(), policy=email.policy.SMTPUTF8)
    assert message["To"].addresses[0].addr_spec == "zoë@xn--exmple-cua.org"
    assert message["To"].addresses[0].display_name == "Zoë 愛"
    check_wire(raw.replace("zoë@".encode(), b"zoe@"))


def test_a_sender_is_not_international() -> None:
    with pytest.raises(ConfigurationError, match=r"MAIL_FROM.*MAIL_REPLY_TO"):
        Composer(
            "http://f.example",
            "https://jobs.example",
            "zoë@f.example",
            KINDS.values(),
            reply_to="a@ä.example",
        )


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": "a@b\r\nBcc: x@example.org"},
        {"message_id": ""},
        {"token": "short"},
        {"token": "a" * 30 + ">\r\n"},
        {"message_date": datetime(2026, 3, 10, 8, 0)},
    ],
)
def test_an_unusable_letter_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"malformed|token|time zone"):
        composer().compose(letter(**change))


def test_a_job_name_cannot_end_its_header() -> None:
    check_wire(composer().compose(letter(job="reminder.x\r\nBcc: y:z")))


def test_unsubscribing_needs_https_except_on_this_machine() -> None:
    Composer("http://f.example", "http://127.0.0.1:8080", "D <d@f.example>", KINDS.values())

    for public_url in ("http://jobs.example", "http://0.0.0.0:8080", "https://[::]", "jobs.example"):
        with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
            Composer("http://f.example", public_url, "D <d@f.example>", KINDS.values())


def test_a_sender_that_cannot_be_answered_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"MAIL_FROM.*MAIL_REPLY_TO"):
        Composer("http://f.example", "https://jobs.example", "nobody", KINDS.values(), reply_to="neither")


def test_a_sender_that_providers_dislike_draws_a_warning() -> None:
    usual = Composer("https://f.example", "https://j.example", "D <hello@f.example>", KINDS.values())
    disliked = Composer("https://f.example", "https://j.example", "D <no-reply@gmail.com>", KINDS.values())

    assert usual.warnings == ()
    assert len(disliked.warnings) == 2


def test_without_an_address_for_answers_they_go_to_the_sender() -> None:
    made = Composer(
        "https://f.example", "https://j.example", "Größe <hello@f.example>", KINDS.values(), sender_id="a b"
    )

    message = parsed(made.compose(letter(message_date=datetime(2026, 3, 10, 8, tzinfo=UTC))))

    assert message["Reply-To"] == message["From"] == "Größe <hello@f.example>"
    assert message["Feedback-ID"] == "goalDeadlines:deadlines:reminder:a-b"
