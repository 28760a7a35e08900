"""The load of the chaos suite, as a package of jobs: EXTRA_JOBS=tests.chaos.load_jobs."""
