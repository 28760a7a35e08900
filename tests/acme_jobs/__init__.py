"""A package of jobs as an adopter writes it, outside the service: EXTRA_JOBS=tests.acme_jobs.

It holds what such a package can have: a reminder with its SQL, its templates and its own German, and a job of
figures.
"""
