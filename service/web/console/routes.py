"""The routes of every page of the console."""

from service.web.console import pages
from service.web.console.analytics import views as analytics
from service.web.console.audit_log import views as audit_log
from service.web.console.jobs import plans
from service.web.console.jobs import views as jobs
from service.web.console.mails import views as mails
from service.web.console.messages import views as messages
from service.web.console.overview import views as overview
from service.web.console.people import views as people
from service.web.console.runs import views as runs
from service.web.console.suppressions import views as suppressions
from service.web.console.system import views as system

MODULES = (
    pages,
    analytics,
    audit_log,
    jobs,
    plans,
    mails,
    messages,
    overview,
    people,
    runs,
    suppressions,
    system,
)
