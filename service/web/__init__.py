"""The HTTP face of the service: admin API, in-app inbox, probes, and the pages behind the links in mails."""

from service.web.app import build_app
from service.web.deps import AdminDeps, Role

__all__ = ["AdminDeps", "Role", "build_app"]
