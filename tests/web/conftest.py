"""Every story plays in a world of its own."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def base(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the whole service, with a past."""
    from tests.web import fuzzed  # noqa: PLC0415 - schemathesis is slow to import, and most tests do without

    with fuzzed.served(postgres, template, tmp_path_factory.mktemp("service")) as found:
        yield found
