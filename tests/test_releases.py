"""``tests/releases.toml`` names what is in the history."""

import tomllib

import pytest

from service.engine.schema import number
from tests.releases import Release, git, releases


@pytest.mark.parametrize("release", releases(), ids=lambda one: one.version)
def test_each_release_is_in_the_history_and_says_its_version_and_schema(release: Release) -> None:
    told = tomllib.loads(git("show", f"{release.commit}:pyproject.toml").decode())
    names = git("ls-tree", "--name-only", f"{release.commit}:service/engine/migrations").decode().split()

    assert told["project"]["version"] == release.version
    assert max(map(number, names)) == release.schema


def test_releases_are_listed_in_order() -> None:
    versions = [tuple(map(int, one.version.split("."))) for one in releases()]
    assert versions == sorted(set(versions))
