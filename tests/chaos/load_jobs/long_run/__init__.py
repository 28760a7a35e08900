"""chaos.longRun: one run of many pages, which is asked for."""

from datetime import timedelta

from service.engine.job import CatchUp, Job, JobType, TimeMode
from tests.chaos.load_jobs.pages import pages

PAGES = 200

JOB = Job(
    type=JobType.ANALYTICS,
    name="chaos.longRun",
    about="Leaves a row for each of its many pages.",
    schedule="0 0 1 1 *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: local + timedelta(days=1),
    steps=pages(PAGES, 0.1),
)
