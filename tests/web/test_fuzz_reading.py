"""The contract's reading half, asked by chance: what is answered is what it promises, for each role."""

from typing import Any

import pytest
from schemathesis import Case

from tests.web.fuzzed import SAYS, asked, bounded, by, hold

pytestmark = pytest.mark.long
_API = "^/(api/|livez|readyz|startupz|metrics|assets)"
READING = asked().include(method="GET", path_regex=_API)
BRIEFLY = asked("fuzzing").include(path_regex=_API)


@by("admin")
@READING.parametrize()
@bounded(8)
def test_whatever_is_read_gets_an_answer_that_the_contract_promises(
    case: Case[Any], base: str, who: str
) -> None:
    hold(case, base, SAYS[who])


@by("viewer", "nobody")
@BRIEFLY.parametrize()
@bounded(3)
def test_others_get_such_an_answer_too_and_change_nothing(case: Case[Any], base: str, who: str) -> None:
    status = hold(case, base, SAYS[who])
    if case.method in {"POST", "DELETE"} and case.operation.path != "/api/admin/preview":
        assert status in {401, 403}
