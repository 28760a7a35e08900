"""A dashboard to archive from, of either kind."""

from tests.dashboard.conftest import dashboard, mongo_dashboard, postgres_dashboard

__all__ = ["dashboard", "mongo_dashboard", "postgres_dashboard"]
