"""HTTP: the admin API, the in-app inbox, the console, probes, metrics, and the pages that mails link to."""

from service.web.app import build_app
from service.web.deps import AdminDeps, Role

__all__ = ["AdminDeps", "Role", "build_app"]
