"""The gallery of mails: every mail and variant can be seen, and what is shown can be sent as a test."""

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import asyncpg
import pytest

from service.errors import BadRequest
from service.messages.mail.transport import SmtpPhase
from service.messages.preview import Previewer
from service.web.console.mails.gallery import GalleryQuery, in_scheme, view_of
from tests.acme import JOBS, KINDS
from tests.given import Scripted, World, composer, goal, refused, user
from tests.messages.mail.reading import parsed, part
from tests.samples import SAMPLES
from tests.web.console.test_pages import form_token, origin, sign_in
from tests.web.given import Admin, admin

DEADLINES = "/console/mails/goal_deadlines"
FOR_ANN = "?user=ann&at=2026-03-10T08:00"


@pytest.fixture
def transport() -> Scripted:
    return Scripted()


@pytest.fixture
async def given(pool: asyncpg.Pool, transport: Scripted) -> AsyncIterator[Admin]:
    """Ann has a goal due on 11 March, Bob has none; an admin is signed in."""
    world = World(pool)
    await world.at("2026-03-01T12:00:00Z")
    await world.live(user("ann"), user("bob"), goal("g1", due="2026-03-11", title="Read <ten> books"))
    made = composer()
    previewer = Previewer(pool, await world.runner(), JOBS, made, made.compose, transport)
    async with admin(pool, previewer=previewer) as given:
        await sign_in(given)
        yield given


def frame(text: str) -> str:
    """The address of the frame in a page."""
    [address] = re.findall(r'<iframe[^>]* src="([^"]+)"', text)
    return unescape(address)


async def see(given: Admin, path: str, status: int = 200) -> str:
    answer = await given.client.get(path, allow_redirects=False)
    text: str = await answer.text()
    assert answer.status == status, text
    return text


async def send(given: Admin, path: str, **form: str) -> Any:
    return await given.client.post(
        f"{path}/test-send",
        data={"form_token": await form_token(given), "to": "me@example.org"} | form,
        headers=origin(given),
        allow_redirects=False,
    )


async def test_the_gallery_shows_every_variant_of_every_mail(given: Admin) -> None:
    text = await see(given, "/console/mails?language=de&scheme=dark")

    frames = [unescape(src) for src in re.findall(r'<iframe[^>]* src="([^"]+)"', text)]
    assert len(frames) == len(SAMPLES)
    for sample, address in zip(SAMPLES, frames, strict=True):
        assert address.startswith(f"/console/mails/{sample.template}/html?variant={sample.variant}&")
        assert '<html lang="de"' in await see(given, address)


@pytest.mark.parametrize("part_", ["html", "text", "source"])
async def test_every_mail_can_be_seen_in_each_form(given: Admin, part_: str) -> None:
    for sample in SAMPLES:
        page = f"/console/mails/{sample.template}?variant={sample.variant}&part={part_}&width=320"
        text = await see(given, page)
        shown = {
            "html": 'class="w320 light" sandbox width="320"',
            "text": '<pre class="text"',
            "source": "Content-Transfer-Encoding: quoted-printable",
        }
        assert [form for form, sign in shown.items() if sign in text] == [part_]
        assert "Hello Ada Lovelace," in (await see(given, frame(text)) if part_ == "html" else text)


async def test_the_html_stands_in_a_sandbox_and_loads_nothing(given: Admin) -> None:
    answer = await given.client.get(f"{DEADLINES}/html")

    policy = set(answer.headers["Content-Security-Policy"].split("; "))
    assert {"default-src 'none'", "sandbox", "frame-ancestors 'self'", "form-action 'none'"} <= policy
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


async def test_a_user_s_mail_at_a_moment_is_shown_and_its_words_are_no_markup(given: Admin) -> None:
    text = await see(given, f"{DEADLINES}{FOR_ANN}")

    assert "Due tomorrow: Read &lt;ten&gt; books" in text
    assert "<ten>" not in text
    assert 'value="2026-03-10T08:00"' in text
    assert "Due today: Read" in await see(given, f"{DEADLINES}?user=ann&at=2026-03-11T10:00:00%2B01:00")


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("?user=nobody", 404, "Unknown user: nobody"),
        ("?user=bob", 409, "does not look at this user"),
        ("?user=ann&at=2026-03-05T09:00", 409, "not_due"),
        ("?user=ann&at=soon", 400, "The moment is not a time"),
        ("?at=2026-03-05T09:00", 400, "at needs userId"),
        ("?variant=nothing", 400, "variant must be one of full, one"),
        ("?part=pdf", 400, "part must be one of html, text, source"),
        ("?language=xx", 400, "language must be one of en, de"),
        ("?user=%3Cb%3E", 404, "Unknown user: &lt;b&gt;"),
    ],
)
async def test_what_cannot_be_shown_is_named(given: Admin, query: str, status: int, says: str) -> None:
    assert says in await see(given, DEADLINES + query, status)


async def test_what_is_shown_can_be_sent_once_to_an_address(given: Admin, transport: Scripted) -> None:
    answer = await send(given, DEADLINES, user="ann", at="2026-03-10T08:00", part="text")

    assert answer.status == 303
    [envelope] = transport.received
    assert envelope.recipient == "me@example.org"
    assert parsed(envelope.content)["Subject"] == "Due tomorrow: Read <ten> books"
    assert "You asked for a test mail." in part(envelope.content, "plain")
    text = await see(given, answer.headers["Location"])
    assert str(parsed(envelope.content)["Message-ID"]).strip("<>") in text
    assert 'class="text"' in text


async def test_a_test_mail_that_cannot_go_out_is_told_with_what_was_typed(
    given: Admin, transport: Scripted
) -> None:
    wrong = await send(given, DEADLINES, to="nobody")
    assert wrong.status == 400
    assert 'name="to" required maxlength="320" autocomplete="email" value="nobody"' in await wrong.text()

    nothing = await send(given, DEADLINES, user="bob")
    assert nothing.status == 409

    transport.answer = lambda envelope: refused(envelope, SmtpPhase.RCPT, 550, "5.1.1 no such user")
    answer = await send(given, DEADLINES)
    assert answer.status == 502
    assert "5.1.1 no such user" in await answer.text()
    assert transport.received == []


async def test_viewers_look_and_do_not_send(given: Admin, transport: Scripted) -> None:
    await sign_in(given, "the-viewer")

    text = await see(given, DEADLINES)
    assert "/test-send" not in text
    answer = await send(given, DEADLINES)
    assert answer.status == 403
    assert transport.received == []


async def test_an_address_cannot_put_words_into_the_page(given: Admin) -> None:
    assert "evil" not in await see(given, f"{DEADLINES}?sent=evil")


# ── Views, and the colours of a mail ────────────────────────────────────────────────────────────────────────


def test_a_view_comes_back_from_its_own_query() -> None:
    view = GalleryQuery(variant="a b&c", user="é", at="2026-03-10T09:00:00+01:00", part="text", scheme="dark")
    assert GalleryQuery().query() == ""
    assert view.query(part="html", scheme="light") == GalleryQuery(view.variant, view.user, view.at).query()
    assert view_of(view.fields()) == view
    assert view.moment_typed == "2026-03-10T08:00"
    with pytest.raises(BadRequest):
        view_of({"width": "1"})


async def test_every_mail_has_a_page(given: Admin) -> None:
    page = await see(given, "/console/mails")

    for kind in KINDS.values():
        assert f'href="/console/mails/{kind.template}' in page


async def test_a_mail_is_light_or_dark_whatever_the_browser_prefers(given: Admin) -> None:
    light, dark = await see(given, f"{DEADLINES}/html"), await see(given, f"{DEADLINES}/html?scheme=dark")

    assert "prefers-color-scheme" not in light + dark
    assert "@media not all {" in light
    assert "@media all {" in dark
    assert "light dark" not in light + dark
    assert in_scheme("plain", "dark") == "plain"
