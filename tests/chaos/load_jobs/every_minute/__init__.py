"""chaos.everyMinute: many slots of three pages each."""

from datetime import timedelta

from service.engine.job import CatchUp, Job, JobType, TimeMode
from tests.chaos.load_jobs.pages import pages

PAGES = 3

JOB = Job(
    type=JobType.ANALYTICS,
    name="chaos.everyMinute",
    about="Leaves a row for each page of each slot.",
    schedule="* * * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=300),
    steps=pages(PAGES, 0.03),
)
