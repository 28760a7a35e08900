"""The script of the peer post_office (see ``peer``); it runs in that peer's virtual environment.

As its documentation advises: ``send_many`` in batches (mails are rendered when they are queued),
``send_queued_mail --processes N``; batches of 1,000, as each batch opens its connections anew; only failures
are logged.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

_BATCH = 1000


def _configure() -> None:
    settings.configure(
        INSTALLED_APPS=["post_office"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": os.environ["PGDATABASE"],
                "HOST": os.environ["PGHOST"],
                "USER": os.environ["PGUSER"],
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        EMAIL_BACKEND="post_office.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=int(os.environ["SMTP_PORT"]),
        USE_TZ=True,
        LOGGING={"version": 1, "loggers": {"post_office": {"level": "WARNING"}}},
        POST_OFFICE={
            "BATCH_SIZE": int(os.environ.get("BATCH_SIZE", _BATCH)),
            "THREADS_PER_PROCESS": int(os.environ["CONNECTIONS"]),
            "LOG_LEVEL": 1,
            "MESSAGE_ID_ENABLED": True,
            "MESSAGE_ID_FQDN": "example.org",
        },
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    )
    django.setup()
    logging.getLogger("post_office").setLevel(logging.WARNING)


def _people() -> Iterator[dict[str, str]]:
    with Path(os.environ["RECIPIENTS"]).open() as lines:
        for line in lines:
            yield json.loads(line)


def _prepare() -> float:
    """Queue a mail for each person; how many seconds that took."""
    from post_office import mail  # noqa: PLC0415 — its models need the settings
    from post_office.models import EmailTemplate  # noqa: PLC0415

    words = {
        name: _django(text) for name, text in json.loads(Path(os.environ["TEMPLATE"]).read_text()).items()
    }
    began = time.perf_counter()
    template = EmailTemplate.objects.create(
        name="deadline", subject=words["subject"], content=words["text"], html_content=words["html"]
    )
    people = _people()
    while batch := list(islice(people, _BATCH)):
        mail.send_many([_arguments(template, person) for person in batch])
    return time.perf_counter() - began


def _django(text: str) -> str:
    for name in ("name", "goal", "token"):
        text = text.replace(f"QQ{name}QQ", f"{{{{ {name} }}}}")
    return text


def _arguments(template: Any, person: dict[str, str]) -> dict[str, Any]:
    unsubscribe = f"<http://localhost:8080/u/{person['token']}>"
    return {
        "recipients": [person["email"]],
        "sender": "Dashboard <a@example.org>",
        "template": template,
        "context": person,
        "headers": {"List-Unsubscribe": unsubscribe, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    }


def _send() -> None:
    with tempfile.TemporaryDirectory() as folder:
        processes = int(os.environ["PROCESSES"])
        call_command("send_queued_mail", processes=processes, lockfile=f"{folder}/lock")


def main(task: str) -> None:
    """Do one task."""
    _configure()
    if task == "migrate":
        call_command("migrate", verbosity=0)
    elif task == "prepare":
        print(_prepare())
    else:
        _send()


if __name__ == "__main__":
    main(sys.argv[1])
