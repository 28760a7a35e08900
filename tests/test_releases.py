"""``tests/releases.toml`` names what is in the history."""

import tomllib
from pathlib import Path

import pytest

import service
from service.engine.schema import number
from tests.releases import ROOT, Release, git, releases


@pytest.mark.parametrize("release", releases(), ids=lambda one: one.version)
def test_each_release_is_in_the_history_and_says_its_version_and_schema(release: Release) -> None:
    told = tomllib.loads(git("show", f"{release.commit}:pyproject.toml").decode())
    files = git("ls-tree", "-r", "--name-only", release.commit, "service").decode().split()
    names = [Path(file).name for file in files if "/migrations/" in file]

    assert told["project"]["version"] == release.version
    assert max(map(number, names)) == release.schema


def test_releases_are_listed_in_order() -> None:
    versions = [tuple(map(int, one.version.split("."))) for one in releases()]
    assert versions == sorted(set(versions))


def test_the_package_and_the_project_name_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert service.__version__ == project["version"]
