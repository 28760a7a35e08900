"""Earlier releases, as ``tests/releases.toml`` names them, out of this repository's own history."""

import io
import shutil
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Release:
    """A release: its version, its commit (full hash), and the newest schema that it knows."""

    version: str
    commit: str
    schema: int


def releases() -> list[Release]:
    """All of them, oldest first."""
    listed = tomllib.loads((ROOT / "tests/releases.toml").read_text("utf-8"))["release"]
    return [Release(**one) for one in listed]


def last_release() -> Release:
    """The newest one."""
    return releases()[-1]


def git(*arguments: str) -> bytes:
    """What git prints about this repository; skips the test where git or the history is missing."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and this repository's history")
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        shallow = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"],
            capture_output=True, check=False,
        )  # fmt: skip
        if shallow.stdout.strip() == b"true":
            pytest.skip("needs the whole history; this clone is shallow")
        pytest.fail(done.stderr.decode())
    return done.stdout


def checked_out(release: Release, folder: Path) -> Path:
    """The code of a release, in ``folder``."""
    archive = git("archive", release.commit, "service", "openapi.yaml", "pyproject.toml")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder
