"""The configuration: defaults that start, and every problem named at once."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import Settings, unread
from service.setup import parts
from service.url import without_password
from tests.kinds import KINDS
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


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    """Editors on Windows put one in front."""
    (tmp_path / "token").write_text("s3cret\r\n", "utf-8-sig")

    assert Settings.load({"ADMIN_TOKEN_FILE": str(tmp_path / "token")}).admin_token == "s3cret"


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")

    with pytest.raises(ConfigurationError, match="not both"):
        Settings.load({"ADMIN_TOKEN": "b", "ADMIN_TOKEN_FILE": str(tmp_path / "token")})


def test_a_pool_is_neither_too_small_nor_smaller_than_what_stays_open() -> None:
    assert (Settings().database_pool_size, Settings().database_pool_min_size) == (20, 1)
    with pytest.raises(ConfigurationError, match="DATABASE_POOL_SIZE"):
        Settings.load({"DATABASE_POOL_SIZE": "4"})
    with pytest.raises(ConfigurationError, match=r"DATABASE_POOL_MIN_SIZE \(9\) is larger than .* \(8\)"):
        Settings.load({"DATABASE_POOL_SIZE": "8", "DATABASE_POOL_MIN_SIZE": "9"})


def test_one_token_cannot_have_two_roles() -> None:
    with pytest.raises(ConfigurationError, match="must differ"):
        Settings.load({"ADMIN_TOKEN": "same", "VIEWER_TOKEN": "same"})


LINKS = {"FRONTEND_URL": "https://dash.example", "PUBLIC_URL": "https://jobs.example"}
"""Needed where mails leave this machine."""


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
    assert Settings.load(LINKS | environ).smtp_security == security


def test_what_is_shown_holds_no_secret() -> None:
    settings = Settings.load(
        {"ADMIN_TOKEN": "hush1", "SMTP_PASS": "hush2", "DASHBOARD_URL": "mongodb://u:hush3@h/db"}
    )

    assert "hush" not in str(settings.described())
    assert without_password("postgresql://u:p@h:5/d") == "postgresql://u:***@h:5/d"


def test_deadlines_and_reports_may_be_resent_and_nudges_never() -> None:
    def resent(**environ: str) -> frozenset[str]:
        return parts.resent_kinds(Settings.load(environ, also=parts.problems_of), KINDS.values())

    assert resent() == frozenset()
    assert resent(UNCONFIRMED_POLICY="resend") == {"deadlines", "weekly", "monthly"}
    assert resent(UNCONFIRMED_POLICY="weekly, deadlines") == {"weekly", "deadlines"}
    with pytest.raises(ConfigurationError, match="nudges are never resent"):
        resent(UNCONFIRMED_POLICY="daily")


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


MAILING = {"SMTP_HOST": "mail.example"} | LINKS


def problems_of(environ: dict[str, str]) -> list[str]:
    """What is wrong with an environment."""
    try:
        Settings.load(environ)
    except ConfigurationError as error:
        return error.problems
    return []


@pytest.mark.parametrize("name", ["FRONTEND_URL", "PUBLIC_URL"])
@pytest.mark.parametrize("relay", ["mail.example", "127.0.0.1", "localhost"])
def test_mails_that_leave_need_links_that_lead_here_from_elsewhere(name: str, relay: str) -> None:
    sound = MAILING | {"SMTP_HOST": relay}
    assert problems_of(sound) == []
    assert problems_of(sound | {name: "http://localhost:3000"}) == []

    for value in (
        "",
        "http://dash.example",
        "http://10.0.0.1",
        "http://0.0.0.0:8080",
        "https://[::]",
        "dash.example",
    ):
        [problem] = problems_of(sound | {name: value})
        assert problem.startswith(f"{name}: ")
        assert "https" in problem
    for value in ("https://u:secret@dash.example", "https://dash.example/%"):
        [problem] = problems_of(sound | {name: value})
        assert problem.startswith(f"{name}: ")
        assert "secret" not in problem


def test_without_a_mail_server_the_links_lead_to_this_machine() -> None:
    for host, base in {
        "0.0.0.0": "http://127.0.0.1:80",
        "::": "http://[::1]:80",
        "::1": "http://[::1]:80",
        "localhost": "http://localhost:80",
    }.items():
        assert Settings.load({"HOST": host, "PORT": "80"}).public_base == base
    assert problems_of({"FRONTEND_URL": "http://dash.intra"}) == []
    assert problems_of({"PUBLIC_URL": "http://jobs.intra"})[0].startswith("PUBLIC_URL: must be https")
    assert problems_of({"PUBLIC_URL": "https://jobs.example?x=1"})[0].startswith(
        "PUBLIC_URL: must end before ?"
    )


def test_settings_that_contradict_each_other_are_named_beside_those_that_are_wrong() -> None:
    found = problems_of(
        {"PORT": "99999", "SMTP_HOST": "mail.example", "PUBLIC_URL": "x", "ADMIN_TOKEN": "a",
         "VIEWER_TOKEN": "a", "DKIM_KEY_FILE": "/does/not/exist", "DKIM_SELECTOR": "s",
         "JOB_SCHEDULES": '{"a": "x", "b": "0 9 30 2 *"}'}
    )  # fmt: skip

    assert [problem.partition(":")[0] for problem in found] == [
        "DKIM_KEY_FILE",
        "JOB_SCHEDULES",
        "JOB_SCHEDULES",
        "PUBLIC_URL",
        "PORT",
        "ADMIN_TOKEN, VIEWER_TOKEN and DASHBOARD_TOKEN must differ from each other",
        "FRONTEND_URL",
    ]


def test_a_value_in_quotes_is_refused_and_read_without_them() -> None:
    for quote in ('"', "'"):
        [problem] = problems_of(MAILING | {"SMTP_HOST": f"{quote}mail.example{quote}"})
        assert problem.startswith("SMTP_HOST: the value is in quotes")
    assert len(problems_of({"SMTP_HOST": '"mail.example"'})) == 3
    assert problems_of({"MAIL_FROM": '"Dash" <d@dash.example>'}) == []


def test_what_slipped_into_another_variable_is_shown_but_never_a_secret() -> None:
    [problem] = problems_of({"SMTP_PORT": "tcp://10.96.0.5:25"})
    assert "not 'tcp://10.96.0.5:25'; Kubernetes set it for a service of that name" in problem
    for environ in (
        {"PORT": "postgresql://u:Heron@h/d"},
        {"SMTP_PASS_FILE": "Heron"},
        {"DATABASE_URL_FILE": "postgresql://u:Heron@h/d"},
        {"SMTP_PASS_FILE": "/Heron"},
    ):
        [problem] = problems_of(environ)
        assert "Heron" not in problem
    assert "Heron" not in repr(
        Settings.load({"DATABASE_URL": "postgresql://u:Heron@h/d", "SMTP_PASS": "Heron"})
    )


def test_a_misspelt_variable_is_hinted_at() -> None:
    hints = unread(
        {"SMTP_PASSWORD": "hush", "DASHBOARD_URI": "hush", "PATH": "/bin", "HOSTNAME": "h", "TOKEN": "x"}
    )

    assert [hint.split()[0] for hint in hints] == ["DASHBOARD_URI", "SMTP_PASSWORD"]
    assert "SMTP_PASS meant" in hints[1]
    assert "hush" not in str(hints)
    assert unread({"SMTP_PASSWORD": "hush", "SMTP_PASS": "hush", "SMTP_PASS_FILE": "f"}) == []
