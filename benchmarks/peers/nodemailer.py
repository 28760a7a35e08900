"""nodemailer behind graphile-worker, a queue in PostgreSQL, on Node.js."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import CannotInstall, Peer, installed

_PACKAGES = ("graphile-worker@0.18.0", "nodemailer@10.6.1")
_SCRIPT = Path(__file__).with_name("nodemailer_script.mjs")


def _install(folder: Path) -> Sequence[str]:
    node = shutil.which("node")
    if node is None:
        raise CannotInstall("there is no node")
    if not all((folder / "node_modules" / name.partition("@")[0]).is_dir() for name in _PACKAGES):
        quiet = ("--silent", "--no-audit", "--no-fund")
        installed(["npm", "install", *quiet, "--prefix", str(folder), *_PACKAGES], folder)
    return [node, shutil.copy(str(_SCRIPT), str(folder))]  # it finds packages beside itself


NODEMAILER = Peer("graphile-worker + nodemailer", _install, forks=False)
