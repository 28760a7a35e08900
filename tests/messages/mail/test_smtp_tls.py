"""The SMTP pool under TLS against aiosmtpd: what is said in clear, to whom, and what arrives."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.smtp_reply import Fate, fate_of
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from tests.messages.mail.mails import Mails
from tests.process import until

_USER, _PASSWORD = "mailer", "s3cret-pass"
_BODY = b"Subject: x\r\n\r\nconfidential\r\n.leading dot\r\n..two\r\n.\r\n\r\n\xc3\xa9\xff %d\r\n"
_SEVERAL = 5


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate as the server shows it, and a client that trusts nothing else."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def _certificate(folder: Path, name: x509.GeneralName) -> Certificate:
    private = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    key = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "both.pem"
    file.write_bytes(key + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return Certificate(server, ssl.create_default_context(cadata=pem.decode()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for 127.0.0.1."""
    return _certificate(tmp_path_factory.mktemp("own"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for another host."""
    return _certificate(tmp_path_factory.mktemp("other"), x509.DNSName("mail.example.net"))


@dataclass
class Post:
    """What the server got. ``wire``: every byte that clients sent, as an eavesdropper sees it. ``names``: how
    clients called themselves.
    """

    port: int = 0
    wire: bytes = b""
    mails: list[tuple[str, bytes]] = field(default_factory=list)
    logins: list[tuple[str, bytes]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    pipelining: bool = False

    async def handle_EHLO(  # noqa: N802 — the server looks for this name
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.names.add(hostname)
        return [responses[0], *(["250-PIPELINING"] if self.pipelining else []), *responses[1:]]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos[0], envelope.original_content))
        return "250 2.0.0 taken"

    def authenticate(
        self, _server: Any, _session: Any, _envelope: Any, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append((mechanism, data.password))
        good = (data.login, data.password) == (_USER.encode(), _PASSWORD.encode())
        return AuthResult(success=good, handled=False)


@asynccontextmanager
async def _listening(
    make: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
) -> None:
    try:
        while data := await reader.read(65536):
            note(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def post_office(
    context: ssl.SSLContext | None = None, *, tls: bool = False, pipelining: bool = False, **options: Any
) -> AsyncIterator[Post]:
    """A server behind an eavesdropper. ``context``: it offers STARTTLS, or (``tls``) speaks TLS at once."""
    post = Post(pipelining=pipelining)
    loop = asyncio.get_running_loop()
    pairs: set[asyncio.Task[None]] = set()

    def make() -> SMTP:
        starttls = None if tls else context
        return SMTP(
            post, loop=loop, hostname="mail", tls_context=starttls, authenticator=post.authenticate, **options
        )

    def note(data: bytes) -> None:
        post.wire += data

    async def overhear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", inner)
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back, note))
            group.create_task(_copy(there, writer, lambda _: None))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pairs.add(asyncio.create_task(overhear(reader, writer)))

    def tapped() -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), accept)

    async with _listening(make, context if tls else None) as inner, _listening(tapped) as post.port:
        yield post
        async with asyncio.timeout(30):
            await asyncio.gather(*pairs)


def envelope(n: int, body: bytes | None = None) -> Envelope:
    return Envelope(
        n, "hello@example.org", f"ann{n}@example.org", body or _BODY.replace(b"%d", str(n).encode())
    )


class Letters(Mails):
    """All that is waiting when no connection can be opened gets that for its result."""

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        super().refused(phase, code, reply)
        self.results += [SendResult(one.id, False, phase, code, reply) for one in self.waiting]


async def send(post: Post, *envelopes: Envelope, **config: Any) -> list[SendResult]:
    """Send and say goodbye; one result for each."""
    letters = Letters(*envelopes)
    pool = SmtpPool(SmtpConfig("127.0.0.1", post.port, connections=1, **config), SystemClock())
    pool.start(letters)
    pool.wake()
    await until(lambda: letters.settled)
    await pool.close()
    return letters.results


def answers(results: Sequence[SendResult]) -> list[tuple[int, bool, SmtpPhase, int | None]]:
    return [(r.id, r.accepted, r.phase, r.code) for r in results]


def taken(n: int) -> list[tuple[int, bool, SmtpPhase, int | None]]:
    return [(i, True, SmtpPhase.DOT, 250) for i in range(n)]


def silent(post: Post) -> bool:
    """Nobody who listens learned of a letter, a person or a password, and no mail was begun."""
    secrets = (b"MAIL", b"RCPT", b"AUTH", b"DATA", b"confidential", b"example.org", _PASSWORD.encode())
    return not any(secret in post.wire for secret in secrets) and not post.mails and not post.logins


_WAYS = ["starttls", "tls"]


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_messages_arrive_byte_for_byte_and_nobody_can_listen(
    certificate: Certificate, way: str, pipelining: bool
) -> None:
    envelopes = [envelope(n) for n in range(_SEVERAL)]

    async with post_office(certificate.server, tls=way == "tls", pipelining=pipelining) as post:
        results = await send(post, *envelopes, security=way, tls_context=certificate.client)

    assert answers(results) == taken(_SEVERAL)
    assert post.mails == [(e.recipient, e.content) for e in envelopes]
    assert b"confidential" not in post.wire
    assert b"example.org" not in post.wire


@pytest.mark.parametrize("way", _WAYS)
async def test_a_mail_of_megabytes_arrives_byte_for_byte(certificate: Certificate, way: str) -> None:
    lines = b"".join(b".%d %s\r\n" % (n, b"x" * (n % 900)) for n in range(6000))
    large = envelope(0, b"Subject: large\r\n\r\n" + lines)

    async with post_office(certificate.server, tls=way == "tls") as post:
        results = await send(post, large, envelope(1), security=way, tls_context=certificate.client)

    assert answers(results) == taken(2)
    assert [content for _, content in post.mails] == [large.content, envelope(1).content]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN"])
async def test_we_log_in_only_where_nobody_can_listen(
    certificate: Certificate, way: str, mechanism: str
) -> None:
    other = {"LOGIN", "PLAIN"} - {mechanism}

    async with post_office(
        certificate.server,
        tls=way == "tls",
        auth_required=True,
        auth_exclude_mechanism=other,
        auth_require_tls=way == "starttls",  # aiosmtpd knows only of TLS that it started itself
    ) as post:
        results = await send(
            post,
            envelope(0),
            security=way,
            user=_USER,
            password=_PASSWORD,
            tls_context=certificate.client,
        )

    assert answers(results) == taken(1)
    assert post.logins == [(mechanism, _PASSWORD.encode())]
    assert b"AUTH" not in post.wire


@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN"])
async def test_a_wrong_password_is_our_fault_and_no_mail_is_begun(
    certificate: Certificate, mechanism: str
) -> None:
    other = {"LOGIN", "PLAIN"} - {mechanism}

    async with post_office(
        certificate.server,
        auth_required=True,
        auth_exclude_mechanism=other,
    ) as post:
        results = await send(
            post,
            envelope(0),
            envelope(1),
            security="starttls",
            user=_USER,
            password="wrong",
            tls_context=certificate.client,
        )

    assert answers(results) == [(n, False, SmtpPhase.AUTH, 535) for n in range(2)]
    assert {fate_of(result) for result in results} == {Fate.OURS}
    assert post.logins == [(mechanism, b"wrong")]
    assert post.mails == []


async def test_without_a_login_where_one_is_demanded_it_is_our_fault_as_well(
    certificate: Certificate,
) -> None:
    async with post_office(certificate.server, auth_required=True) as post:
        results = await send(post, envelope(0), security="starttls", tls_context=certificate.client)

    assert answers(results) == [(0, False, SmtpPhase.MAIL, 530)]
    assert fate_of(results[0]) is Fate.OURS


@pytest.mark.parametrize("way", _WAYS)
async def test_a_certificate_that_nobody_trusts_is_refused(certificate: Certificate, way: str) -> None:
    async with post_office(certificate.server, tls=way == "tls") as post:
        results = await send(post, envelope(0), envelope(1), security=way, user=_USER, password=_PASSWORD)

    assert [(r.accepted, r.code, fate_of(r)) for r in results] == [(False, None, Fate.RETRY)] * 2
    assert all("certificate verify failed" in r.reply for r in results)
    assert silent(post)


@pytest.mark.parametrize("way", _WAYS)
async def test_a_trusted_certificate_of_another_host_is_refused(stranger: Certificate, way: str) -> None:
    async with post_office(stranger.server, tls=way == "tls") as post:
        (result,) = await send(post, envelope(0), security=way, tls_context=stranger.client)

    assert (result.accepted, result.code, fate_of(result)) == (False, None, Fate.RETRY)
    assert "certificate verify failed" in result.reply
    assert silent(post)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("who", ["", _USER])
async def test_a_server_that_does_not_offer_starttls_is_told_nothing(
    certificate: Certificate, who: str
) -> None:
    """Although it would take the password and the mail in clear."""
    async with post_office(auth_require_tls=False, auth_required=bool(who)) as post:
        results = await send(
            post,
            envelope(0),
            envelope(1),
            security="starttls",
            user=who,
            password=_PASSWORD,
            tls_context=certificate.client,
        )

    assert [(r.accepted, fate_of(r)) for r in results] == [(False, Fate.RETRY)] * 2
    assert all("STARTTLS" in r.reply for r in results)
    assert silent(post)


async def test_a_server_that_speaks_no_tls_is_told_nothing_by_tls(certificate: Certificate) -> None:
    async with post_office() as post:
        (result,) = await send(post, envelope(0), security="tls", tls_context=certificate.client)

    assert (result.accepted, result.code, fate_of(result)) == (False, None, Fate.RETRY)
    assert silent(post)


async def test_replies_smuggled_in_before_tls_are_not_believed(certificate: Certificate) -> None:
    """Whoever stands in between appends replies to the go-ahead in clear, as if they had come under TLS."""
    heard = b""

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        answer = {
            b"EHLO": b"250-mail\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
            b"STAR": b"220 go\r\n250-mail\r\n250 AUTH PLAIN\r\n235 welcome\r\n250 mail\r\n",
            b"AUTH": b"535 5.7.8 no\r\n",
        }
        writer.write(b"220 mail\r\n")
        try:
            while line := await reader.readline():
                heard += line
                writer.write(answer.get(line[:4], b"500 what\r\n"))
                if line.startswith(b"STAR"):
                    await writer.start_tls(certificate.server)
        except OSError:
            pass  # the client took offence
        writer.close()

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    async with server:
        (result,) = await send(
            Post(server.sockets[0].getsockname()[1]),
            envelope(0),
            security="starttls",
            user=_USER,
            password=_PASSWORD,
            tls_context=certificate.client,
        )

    assert not result.accepted
    assert b"STARTTLS" in heard
    assert b"MAIL" not in heard


async def test_the_ping_says_what_is_wrong(certificate: Certificate) -> None:
    async with post_office(certificate.server) as post:
        trusting = SmtpConfig("127.0.0.1", post.port, tls_context=certificate.client)
        pool, wary = (SmtpPool(c, SystemClock()) for c in (trusting, SmtpConfig("127.0.0.1", post.port)))
        async with asyncio.timeout(30):
            assert await pool.ping() is None
            assert "certificate verify failed" in (await wary.ping() or "")
            await pool.close()
