"""Takes each guard of ``tests/chaos/guards.toml`` out of a copy of the service, and plays the scenario there.

``python -m tests.chaos.guards [part of a guard's name …]``; without an argument: all. The exit code is 1 if
one is missed by nobody. A scenario that could not be played to its end has noticed nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.guards import Guard, guards
from tests.releases import ROOT

LIST = ROOT / "tests/chaos/guards.toml"
_COPIED = ("service", "tests", "openapi.yaml", "pyproject.toml")
_NOTICED = 1


def play_without(guard: Guard) -> tuple[bool, str]:
    """Whether its scenario failed, and the line of its table."""
    with tempfile.TemporaryDirectory(prefix="chaos-guard-") as folder:
        tree = Path(folder)
        for name in _COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, tree / name)
        path = tree / guard.file
        path.write_text(guard.without(path.read_text("utf-8")), "utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.chaos", "--seeds", "0", "--exactly", guard.test],
            cwd=tree, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.returncode == _NOTICED, (done.stdout.splitlines() or [done.stderr])[-1]


def main(words: Sequence[str]) -> int:
    """The exit code."""
    chosen = [guard for guard in guards(LIST) if not words or any(word in guard.name for word in words)]
    missed = 0
    for guard in chosen:
        noticed, line = play_without(guard)
        missed += not noticed
        print("noticed  " if noticed else "unnoticed", guard.name, "\n         ", line, flush=True)
    print(f"{len(chosen)} guards, {len(chosen) - missed} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
