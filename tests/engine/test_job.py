"""What a job must have."""

import pytest

from service.engine.job import CatchUp, Job, JobType, TimeMode


def test_a_job_without_steps_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"analytics\.idle has no steps"):
        Job(
            type=JobType.ANALYTICS,
            name="idle",
            about="",
            schedule="0 9 * * *",
            mode=TimeMode.UTC,
            catch_up=CatchUp.NONE,
            useful_until=lambda local: local,
        )
