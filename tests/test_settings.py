"""The configuration: defaults that start, and every problem named at once."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import Settings, without_password
from tests.zone_cases import ACCEPTED, REFUSED, Case


def test_an_empty_environment_is_the_demo() -> None:
    settings = Settings.load({})

    assert settings.database_url == ""
    assert settings.public_base == "http://127.0.0.1:8080"
    assert settings.loopback


def test_all_problems_are_reported_at_once_by_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(
            {
                "PORT": "eighty",
                "SERVICE_TIMEZONE": "Mars/Olympus",
                "FRONTEND_URL": "javascript:alert(1)",
                "DATABASE_URL": "mysql://x",
                "CLEANUP_INTERVAL_DAYS": "3",
                "MAIL_FROM": "a@b\r\nBcc: c@d",
                "SMTP_PASS_FILE": "/does/not/exist",
                "JOB_SCHEDULES": '{"goalDeadlines": "0 9 30 2 *"}',
                "SMTP_DOMAIN_LIMITS": "gmail.com=5,*=1/x",
            }
        )

    named = {problem.split(":")[0] for problem in caught.value.problems}
    assert named == {
        "PORT",
        "SERVICE_TIMEZONE",
        "FRONTEND_URL",
        "DATABASE_URL",
        "CLEANUP_INTERVAL_DAYS",
        "MAIL_FROM",
        "SMTP_PASS_FILE",
        "JOB_SCHEDULES",
        "SMTP_DOMAIN_LIMITS",
    }
    (limits,) = [problem for problem in caught.value.problems if problem.startswith("SMTP_DOMAIN_LIMITS")]
    assert "'gmail.com=5': write" in limits
    assert "'*=1/x': write" in limits


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_zone_is_the_one_that_its_name_means(case: Case) -> None:
    settings = Settings.load({"SERVICE_TIMEZONE": case.name, "DEFAULT_TIMEZONE": case.name})

    assert settings.service_timezone in case.accepted
    assert settings.default_timezone in case.accepted


@pytest.mark.parametrize("name", [case.name for case in REFUSED if case.name] + ["CET+1", "  ", "EST5"])
def test_what_is_no_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"SERVICE_TIMEZONE": name, "DEFAULT_TIMEZONE": name})

    expected = f"{name!r} is not an IANA zone; use a name like Europe/Berlin"
    assert caught.value.problems == [f"SERVICE_TIMEZONE: {expected}", f"DEFAULT_TIMEZONE: {expected}"]


def test_notifications_stay_here_unless_the_dashboard_is_named() -> None:
    assert Settings.load({}).in_app == "service"
    assert Settings.load({"IN_APP": "dashboard"}).in_app == "dashboard"
    with pytest.raises(ConfigurationError, match="IN_APP"):
        Settings.load({"IN_APP": "both"})


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")

    assert Settings.load({"ADMIN_TOKEN_FILE": str(tmp_path / "token")}).admin_token == "s3cret"


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")

    with pytest.raises(ConfigurationError, match="not both"):
        Settings.load({"ADMIN_TOKEN": "b", "ADMIN_TOKEN_FILE": str(tmp_path / "token")})


def test_one_token_cannot_have_two_roles() -> None:
    with pytest.raises(ConfigurationError, match="must differ"):
        Settings.load({"ADMIN_TOKEN": "same", "VIEWER_TOKEN": "same"})


@pytest.mark.parametrize(
    ("environ", "security"),
    [
        ({"SMTP_HOST": "mail.example", "SMTP_PORT": "587"}, "starttls"),
        ({"SMTP_HOST": "mail.example", "SMTP_PORT": "465"}, "tls"),
        ({"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "25"}, "none"),
        ({"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "25", "SMTP_TLS": "tls"}, "tls"),
    ],
)
def test_the_mail_server_is_spoken_to_as_its_port_suggests(environ: dict[str, str], security: str) -> None:
    assert Settings.load(environ).smtp_security == security


def test_what_is_shown_holds_no_secret() -> None:
    settings = Settings.load(
        {"ADMIN_TOKEN": "hush1", "SMTP_PASS": "hush2", "DASHBOARD_URL": "mongodb://u:hush3@h/db"}
    )

    assert "hush" not in str(settings.described())
    assert without_password("postgresql://u:p@h:5/d") == "postgresql://u:***@h:5/d"


def test_deadlines_and_reports_may_be_resent_and_nudges_never() -> None:
    assert Settings.load({}).resent_kinds == frozenset()
    assert Settings.load({"UNCONFIRMED_POLICY": "resend"}).resent_kinds == {"deadlines", "weekly", "monthly"}
    assert Settings.load({"UNCONFIRMED_POLICY": "weekly, deadlines"}).resent_kinds == {"weekly", "deadlines"}
    with pytest.raises(ConfigurationError, match="nudges are never resent"):
        Settings.load({"UNCONFIRMED_POLICY": "daily"})


@pytest.mark.parametrize("name", ["CLEANUP_INTERVAL_DAYS", "ANALYTICS_RETENTION_DAYS", "CLEANUP_MODE"])
@pytest.mark.parametrize("value", ["29", "-1", "soon", "1e9", "delete"])
def test_nonsense_about_keeping_stops_the_start_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Settings.load({name: value})
    assert error.value.problems[0].startswith(f"{name}: ")


def test_what_is_kept_by_default() -> None:
    keeping = Settings.load({}).keeping
    assert keeping.mode == "report"
    assert (keeping.interval.days, keeping.retention.days) == (180, 365)
