"""Where there is room, servers and tests write into memory: a disk is slow, and nothing of it is kept."""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH = 4 * 2**30


def in_memory() -> Path | None:
    """A folder in memory, if there is one with room."""
    there = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK | os.X_OK)
    return _MEMORY if there and shutil.disk_usage(_MEMORY).free > _ENOUGH else None


def folder(prefix: str) -> Path:
    """A new folder there, else on the disk; whoever calls this removes it."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=in_memory()))
