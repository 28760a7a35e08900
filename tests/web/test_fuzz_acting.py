"""The contract's acting half, asked by chance: jobs run, loops restart, people erased, mails are files."""

from typing import Any

import pytest
from schemathesis import Case

from tests.web.fuzzed import SAYS, asked, bounded, by, hold

pytestmark = pytest.mark.long
ACTING = asked().include(method=["POST", "DELETE"], path_regex="^/(api/|u/|preferences/)")


@by("admin")
@ACTING.parametrize()
@bounded(8)
def test_whatever_is_to_be_done_gets_an_answer_that_the_contract_promises(
    case: Case[Any], base: str, who: str
) -> None:
    hold(case, base, SAYS[who])
