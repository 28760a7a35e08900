"""A session is what the signature says, for as long as its token holds."""

from datetime import UTC, datetime, timedelta

from service.web.console.session import LIFETIME, begin, resume
from service.web.deps import Role
from tests.web.given import TOKENS

NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)
COOKIE = begin("the-viewer", NOW, "a-nonce")


def test_a_session_has_the_role_of_the_token_that_opened_it() -> None:
    for token, role in (("the-admin", Role.ADMIN), ("the-viewer", Role.VIEWER)):
        session = resume(TOKENS, begin(token, NOW, "n"), NOW)
        assert session is not None
        assert session.role is role


def test_a_session_ends_after_its_lifetime_and_with_its_token() -> None:
    assert resume(TOKENS, COOKIE, NOW + LIFETIME - timedelta(seconds=1))
    assert resume(TOKENS, COOKIE, NOW + LIFETIME) is None
    assert resume({"the-admin": "admin", "another": "viewer"}, COOKIE, NOW) is None


def test_a_dashboard_s_token_opens_nothing() -> None:
    assert resume(TOKENS, begin("the-dashboard", NOW, "n"), NOW) is None


def test_nothing_that_was_changed_or_made_up_is_a_session() -> None:
    expires, nonce, signature = COOKIE.split(".")
    session = resume(TOKENS, COOKIE, NOW)
    assert session is not None
    forged = [
        "",
        ".",
        "..",
        "a.b.c",
        "é.b.c",
        "the-viewer",
        "the-admin",
        f"{'9' * 5000}.x.y",
        f"9.{nonce}.{signature}",
        f"²{expires}.{nonce}.{signature}",
        f"{int(expires) + 1}.{nonce}.{signature}",
        f"{expires}.other.{signature}",
        f"{expires}.{nonce}.",
        f"{expires}.{nonce}.{session.form_token}",
    ]
    assert [cookie for cookie in forged if resume(TOKENS, cookie, NOW)] == []


def test_each_session_has_a_form_token_of_its_own_that_is_not_the_cookie() -> None:
    first, second = resume(TOKENS, COOKIE, NOW), resume(TOKENS, begin("the-viewer", NOW, "other"), NOW)
    assert first is not None
    assert second is not None
    assert first.form_token != second.form_token
    assert first.form_token not in COOKIE
    assert "the-viewer" not in COOKIE
