"""What is configured about the mail server, up to a real one with the certificate of a private authority."""

from pathlib import Path

import pytest

from service.clock import SystemClock
from service.errors import ConfigurationError
from service.messages.mail.smtp import SmtpPool
from service.settings import Settings
from service.setup.findings import Findings
from service.setup.parts import smtp_config
from service.setup.preflight import check_mail
from tests import certificates
from tests.messages.mail.mails import send
from tests.messages.mail.test_smtp_tls import envelope, post_office
from tests.process import until

_LINKS = {"PUBLIC_URL": "https://jobs.example.org", "FRONTEND_URL": "https://dashboard.example.org"}
_MAILING = {"SMTP_HOST": "localhost", "MAIL_FROM": "Dashboard <hello@mail.example.org>"} | _LINKS


@pytest.mark.parametrize("way", ["starttls", "tls"])
async def test_a_private_authority_is_trusted_once_it_is_named(tmp_path: Path, way: str) -> None:
    certificate = certificates.make(tmp_path)
    environ = _MAILING | {"SMTP_TLS": way}
    async with post_office(certificate.context, tls=way == "tls") as post:
        findings = Findings()
        await check_mail(Settings.load(environ | {"SMTP_PORT": str(post.port)}), findings)
        assert findings.problems == [
            f"SMTP_HOST: localhost:{post.port} shows a certificate that is not trusted here; name the file of"
            " its authority (CA) in SMTP_CA_FILE"
        ]
        assert post.names <= {"mail.example.org"}

        environ |= {"SMTP_PORT": str(post.port), "SMTP_CA_FILE": str(certificate.authority)}
        settings, findings = Settings.load(environ), Findings()
        await check_mail(settings, findings)
        assert findings.problems == []
        pool = SmtpPool(smtp_config(settings), SystemClock())
        mails = await send(pool, envelope(1), envelope(2))
        await pool.close()
        await until(lambda: not pool.connections)

    assert [accepted for _, accepted, _, _ in mails.ends] == [True, True]
    assert len(post.mails) == 2
    assert post.names == {"mail.example.org"}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "mail.example.org"),
        ({"SMTP_EHLO": "jobs.example.net"}, "jobs.example.net"),
        ({"SMTP_EHLO": "[192.0.2.1]"}, "[192.0.2.1]"),
        ({"SMTP_EHLO": "[IPv6:2001:db8::1]"}, "[IPv6:2001:db8::1]"),
    ],
)
async def test_we_say_who_we_are(environ: dict[str, str], name: str) -> None:
    async with post_office() as post:
        settings = Settings.load(_MAILING | {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(post.port)} | environ)
        pool = SmtpPool(smtp_config(settings), SystemClock())
        assert await pool.ping() is None
        await pool.close()
        await until(lambda: not pool.connections)

    assert post.names == {name}


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(_MAILING | environ)
    return list(caught.value.problems)


def test_a_file_that_is_no_authority_is_named_with_what_to_do(tmp_path: Path) -> None:
    certificate = certificates.make(tmp_path)
    (tmp_path / "notes.txt").write_text("see the wiki")
    for name in ("SMTP_CA_FILE", "DATABASE_CA_FILE", "DASHBOARD_CA_FILE"):
        for file in (certificate.key, tmp_path / "notes.txt"):
            (problem,) = problems({name: str(file), "SMTP_TLS": "tls"})
            assert problem.startswith(
                f"{name}: {file} holds no certificate in PEM; write the authority's there"
            )
        (problem,) = problems({name: str(tmp_path), "SMTP_TLS": "tls"})
        assert (
            problem
            == f"{name}: {tmp_path} is no file that can be read; name the PEM file of the authority (CA)"
        )


def test_an_authority_for_a_connection_without_tls_is_a_mistake(tmp_path: Path) -> None:
    file = str(certificates.make(tmp_path).authority)

    (problem,) = problems({"SMTP_CA_FILE": file, "SMTP_TLS": "none"})

    assert problem == ("SMTP_CA_FILE: there is no certificate without TLS; set SMTP_TLS=starttls or tls")


@pytest.mark.parametrize("name", ["two words", "-x.example.org", "jobs_1.example.org", "x\r\nMAIL", "a" * 64])
def test_a_name_that_mail_servers_refuse_is_refused_at_start(name: str) -> None:
    (problem,) = problems({"SMTP_EHLO": name})

    assert problem.startswith("SMTP_EHLO: ")
    assert "is no host name; use the one that this machine's address has in DNS" in problem
