"""The pages of the contract, asked by chance, by an admin's browser, a viewer's and a stranger's."""

import re
from typing import Any

import pytest
import requests
from schemathesis import Case

from tests.web.fuzzed import TOKENS, asked, bounded, by, hold

pytestmark = pytest.mark.long
_PAGES = "^/(console|u/|preferences/|pages.css)"
PAGES = asked().include(path_regex=_PAGES)
BRIEFLY = asked("fuzzing").include(path_regex="^/console")


def _cookie(base: str, token: str) -> str:
    answer = requests.post(
        f"{base}/console/sign-in",
        data={"token": token},
        headers={"Origin": base},
        allow_redirects=False,
        timeout=60,
    )
    return str(answer.cookies["console"])


@pytest.fixture(scope="module")
def admin(base: str) -> tuple[str, str]:
    """An admin's cookie and form token."""
    cookie = _cookie(base, TOKENS["ADMIN_TOKEN"])
    page = requests.get(f"{base}/console/mails", cookies={"console": cookie}, timeout=60).text
    found = re.search(r'name="form_token" value="(\w+)"', page)
    assert found
    return cookie, found[1]


@pytest.fixture(scope="module")
def viewer(base: str) -> str:
    return _cookie(base, TOKENS["VIEWER_TOKEN"])


@by("admin")
@PAGES.parametrize()
@bounded(5)
def test_whatever_a_browser_sends_gets_an_answer_that_the_contract_promises(
    case: Case[Any], base: str, admin: tuple[str, str], who: str
) -> None:
    assert who == "admin"
    cookie, form_token = admin
    if case.operation.path.startswith("/console"):
        case.cookies = {"console": cookie}
        if isinstance(case.body, dict):
            case.body = {**case.body, "form_token": form_token}
    hold(case, base, {"Origin": base})


@by("viewer", "nobody")
@BRIEFLY.parametrize()
@bounded(3)
def test_who_may_not_act_gets_such_an_answer_too(case: Case[Any], base: str, viewer: str, who: str) -> None:
    case.cookies = {"console": viewer} if who == "viewer" else {}
    hold(case, base, {"Origin": base})
