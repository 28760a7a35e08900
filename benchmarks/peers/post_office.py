"""django-post-office on PostgreSQL, in a virtual environment of its own."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Peer, installed

_PACKAGES = ("django-post-office==3.12.0", "Django==5.2.*", "psycopg[binary]==3.3.*")
_SCRIPT = Path(__file__).with_name("post_office_script.py")


def _install(folder: Path) -> Sequence[str]:
    python = folder / "bin" / "python"
    if not python.exists():
        installed([sys.executable, "-m", "venv", str(folder)], folder)
    quiet = ("--quiet", "--disable-pip-version-check")
    if not _is_there(python):
        installed([str(python), "-m", "pip", "install", *quiet, *_PACKAGES], folder)
    return [
        str(python),
        shutil.copy(str(_SCRIPT), str(folder)),
    ]  # beside this module it would find it instead


def _is_there(python: Path) -> bool:
    check = [str(python), "-c", "import post_office, psycopg"]
    return subprocess.run(check, check=False, capture_output=True).returncode == 0


POST_OFFICE = Peer("post_office", _install, forks=True)
