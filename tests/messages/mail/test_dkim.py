"""Signatures as receivers check them: dkimpy is the judge, the keys are made here, DNS is a function."""

import base64
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from types import SimpleNamespace

import dkim
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.jobs import all_jobs
from service.messages.mail.dkim import DkimSigner
from service.messages.reminder import kinds_of
from service.settings import Settings
from service.setup.parts import composer_of
from tests.messages.mail.cast import composer, letter, one_goal

AT = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)
KINDS = ["rsa", "ed25519"]
MESSAGE = (
    b"Received: from inside\r\n"
    b"From: Dashboard <hello@example.org>\r\n"
    b"To: Ada <ada@example.net>\r\n"
    b"Subject: Due  tomorrow:\r\n\t Read ten\t books \r\n"
    b"Date: Tue, 10 Mar 2026 08:00:00 +0000\r\n"
    b"X-Note: not signed\r\n"
    b"\r\n"
    b"Read ten books.\r\n"
)
BODIES = {
    "none": b"",
    "one empty line": b"\r\n",
    "empty lines": b"\r\n\r\n\r\n",
    "empty lines at the end": b"a\r\n\r\n\r\n",
    "empty lines in front": b"\r\n\r\na\r\n",
    "empty lines within": b"a\r\n\r\n\r\nb\r\n",
    "blanks at the end of lines": b"a  \r\nb\t\r\nc \t \r\n",
    "blanks in front": b" a\r\n\tb\r\n \t c\r\n",
    "runs of blanks": b"a  b\t\tc \t d\te f\r\n",
    "only blanks": b"   \r\n",
    "only tabs": b"\t\r\n",
    "lines of blanks at the end": b"a\r\n \r\n\t\t\r\n  \r\n",
    "lines of blanks within": b"a\r\n  \r\nb\r\n",
    "no last line end": b"a\r\nb",
    "no last line end, one line": b"a",
    "no last line end, a blank": b"a\r\nb ",
    "no last line end, only blanks": b"a\r\n \t",
    "only blanks and no line end": b"\t ",
    "dots": b".\r\n..\r\n",
}


@cache
def private_key(kind: str) -> rsa.RSAPrivateKey | Ed25519PrivateKey:
    """One key of each kind for all tests."""
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()


def pem(
    key: PrivateKeyTypes,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    passphrase: bytes = b"",
) -> bytes:
    """The key as operators have it in a file."""
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, form, lock)


@cache
def signer(kind: str, domain: str = "example.org", selector: str = "s1") -> DkimSigner:
    return DkimSigner.from_pem(pem(private_key(kind)), domain, selector)


def dns_of(*signers: DkimSigner) -> Callable[..., bytes | None]:
    """The DNS in which these signers' records were published."""
    records = {f"{s.txt_name}.".encode(): s.txt_record.encode() for s in signers}

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return records.get(name)

    return look_up


def accepted(message: bytes, by: DkimSigner) -> bool:
    """Whether a receiver accepts what the wire makes of the message: it always ends with a line end."""
    wire = message if message.endswith(b"\r\n") else message + b"\r\n"
    return bool(dkim.verify(wire, dnsfunc=dns_of(by)))


def added(signed: bytes, message: bytes) -> bytes:
    """The header that signing added; the rest is untouched."""
    assert signed.endswith(message)
    return signed[: -len(message)]


def tags(header: bytes) -> dict[str, str]:
    """The tags of a DKIM-Signature, without white space."""
    name, _, value = header.decode("ascii").partition(":")
    assert name == "DKIM-Signature"
    pairs = [pair.partition("=") for pair in re.sub(r"\s", "", value).split(";")]
    assert len({key for key, _, _ in pairs}) == len(pairs)
    return {key: text for key, _, text in pairs}


class VerifyKey:
    """Checks Ed25519 signatures for dkimpy, which asks PyNaCl; everything around it stays dkimpy's."""

    def __init__(self, text: bytes, encoder: object) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))

    def verify(self, message: bytes, signature: bytes) -> None:
        self._key.verify(signature, message)


@pytest.fixture(autouse=True, scope="module")
def dkimpy_knows_ed25519() -> Iterator[None]:
    """Gives dkimpy the part of PyNaCl that it uses."""
    nacl = SimpleNamespace(
        signing=SimpleNamespace(VerifyKey=VerifyKey),
        encoding=SimpleNamespace(Base64Encoder=None),
        exceptions=SimpleNamespace(BadSignatureError=InvalidSignature, ValueError=ValueError),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim, "nacl", nacl, raising=False)
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_receivers_accept_the_signature(kind: str) -> None:
    signed = signer(kind).sign(MESSAGE, AT)

    assert accepted(signed, signer(kind))
    assert not dkim.verify(signed, dnsfunc=dns_of())
    found = tags(added(signed, MESSAGE))
    assert found.pop("b")
    assert found.pop("bh")
    assert found == {
        "v": "1",
        "a": f"{kind}-sha256",
        "c": "relaxed/relaxed",
        "d": "example.org",
        "s": "s1",
        "t": str(int(AT.timestamp())),
        "h": "from:from:to:to:subject:subject:date:date",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\nRead ten books", b"\r\nRead two books"),
        (b"books.\r\n", b"books.\r\n\r\nAnd this.\r\n"),
        (b"Due  tomorrow", b"Due today"),
        (b"hello@", b"evil@"),
        (b"ada@", b"eve@"),
        (b"08:00:00", b"09:00:00"),
        (b"From:", b"From: Evil <evil@example.com>\r\nFrom:"),
        (b"X-Note:", b"From: Evil <evil@example.com>\r\nX-Note:"),
        (b"X-Note:", b"To: Eve <eve@example.com>\r\nX-Note:"),
        (b"From:", b"To: Eve <eve@example.com>\r\nFrom:"),
        (b"From:", b"Subject: You won\r\nFrom:"),
        (b"From:", b"Date: Wed, 11 Mar 2026 08:00:00 +0000\r\nFrom:"),
        (b" t=177", b" t=176"),
        (b" d=example.org", b" d=example.com"),
    ],
)
def test_receivers_notice_changes(kind: str, old: bytes, new: bytes) -> None:
    signed = signer(kind).sign(MESSAGE, AT)
    changed = signed.replace(old, new, 1)

    assert changed != signed
    assert not accepted(changed, signer(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_receivers_forgive_what_mail_servers_do(kind: str) -> None:
    signed = signer(kind).sign(MESSAGE, AT)

    for old, new in [
        (b"X-Note: not signed", b"X-Note: changed"),
        (b"Due  tomorrow:\r\n\t Read", b"Due tomorrow: Read"),
        (b"ten books.\r\n", b"ten\t books. \r\n\r\n"),
    ]:
        assert old in signed
        assert accepted(signed.replace(old, new), signer(kind))
    assert accepted(b"Received: by mx.example.net\r\n" + signed, signer(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_odd_bodies(kind: str, body: bytes) -> None:
    message = b"From: hello@example.org\r\nSubject: odd\r\n\r\n" + body
    signed = signer(kind).sign(message, AT)

    assert added(signed, message)
    assert accepted(signed, signer(kind))


def test_the_hash_of_an_empty_body_is_the_one_of_the_rfc() -> None:
    found = tags(added(signer("ed25519").sign(MESSAGE[:-17], AT), MESSAGE[:-17]))

    assert MESSAGE[:-17].endswith(b"\r\n\r\n")
    assert found["bh"] == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_a_head_without_body_or_with_many_of_one_name() -> None:
    for message in (
        b"From: hello@example.org\r\n",
        b"From: hello@example.org\r\n\r\n",
        b"FROM:hello@example.org\r\nfrom:other@example.org\r\n\r\na\r\n",
        b"List-Id: one\r\nFrom: a@example.org\r\nList-ID: two\r\nlist-id: three\r\n\r\na\r\n",
        b"From: a@example.org\r\nSubject:\r\n\r\na\r\n",
        b"From: a@example.org\r\nSubject:\r\n \r\nTo:\r\n\tb@example.org\r\n\r\na\r\n",
    ):
        assert accepted(signer("ed25519").sign(message, AT), signer("ed25519"))


@pytest.mark.parametrize("kind", KINDS)
def test_real_letters(kind: str) -> None:
    by = signer(kind, "dashboard.example", "key2026")
    for made in (letter(), letter(one_goal("Lire dix livres – été"), recipient_name="Zoë 🎯")):
        message = composer().compose(made)
        signed = by.sign(message, made.message_date)

        assert accepted(signed, by)
        assert tags(added(signed, message))["h"].split(":") == [
            *("from", "from", "to", "to", "subject", "subject", "date", "date", "message-id", "reply-to"),
            *("list-unsubscribe", "list-unsubscribe-post", "list-id", "feedback-id"),
            *("mime-version", "content-type"),
        ]
        for name in (
            b"List-Unsubscribe: <",
            b"Reply-To: ",
            b"Feedback-ID: ",
            b"Message-ID: <",
            b"Content-Type: m",
        ):
            assert signed.count(name) == 1
            assert not accepted(signed.replace(name, name + b"x"), by)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_at_every_attempt(kind: str) -> None:
    message = composer().compose(letter())
    again = DkimSigner.from_pem(pem(private_key(kind)), "Example.ORG", "S1")
    elsewhere = AT.astimezone(timezone(timedelta(hours=9)))

    assert signer(kind).sign(message, AT) == again.sign(message, elsewhere)
    assert signer(kind).sign(message, AT) != again.sign(message, AT + timedelta(seconds=1))


@pytest.mark.parametrize(
    "key", [Ed25519PrivateKey.generate(), *(rsa.generate_private_key(65537, n) for n in (2048, 3072))]
)
@pytest.mark.parametrize(
    "domain", ["a.io", "mail.eu-west-1.a-rather-long-company-name.example.org", f"{'x' * 63}.example.io"]
)
def test_no_line_of_the_header_is_long(key: PrivateKeyTypes, domain: str) -> None:
    by = DkimSigner.from_pem(pem(key), domain, "a-selector-2026")
    message = composer().compose(letter())
    header = added(by.sign(message, AT), message)

    lines = header.split(b"\r\n")
    assert lines.pop() == b""
    assert max(map(len, lines)) <= 78
    assert all(line.startswith(b" ") for line in lines[1:])
    assert all(line == line.rstrip() and line.strip() for line in lines)
    assert accepted(header + message, by)


def test_no_line_of_the_header_is_long_however_many_names_it_has() -> None:
    by = signer("ed25519")
    longest = set()
    for times in range(1, 40):
        message = b"From: a@example.org\r\n" + b"To: b@example.org\r\n" * times + b"\r\na\r\n"
        signed = by.sign(message, AT)
        longest.add(max(map(len, added(signed, message).split(b"\r\n"))))
        assert accepted(signed, by)
    assert max(longest) == 78


NAMES = st.sampled_from(
    [
        *("From", "TO", "Subject", "date", "Message-ID", "Reply-To", "List-Unsubscribe", "List-Id"),
        *("List-Unsubscribe-Post", "Feedback-ID", "MIME-Version", "Content-Type"),
        *("X-Other", "Received", "From-Me"),
    ]
)
TEXTS = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
BLANKS = st.text(alphabet=" \t", max_size=3)
FOLDS = st.sampled_from([" ", "\t", "  ", "\r\n ", "\r\n\t", " \r\n  ", "\t\r\n \t", " \t "])
VALUES = st.builds(
    lambda front, pieces, end: front + "".join(text + fold for text, fold in pieces) + end,
    BLANKS,
    st.lists(st.tuples(TEXTS, FOLDS), max_size=5),
    TEXTS.map(lambda text: text + " ") | TEXTS | BLANKS,
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
PIECES = [
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "  ",
    " \r\n",
    "\t\t\r\n",
    "a",
    "=3D",
    ".",
    ":",
    "-- \r\n",
    "two words",
]
BODY = st.lists(st.sampled_from(PIECES) | TEXTS, max_size=25).map("".join)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(headers=HEADERS, body=BODY, kind=st.sampled_from(KINDS), place=st.integers(0, 12))
@example(headers=[("Subject", "a\r\n b\t\r\n\t c ")], body=" \r\n\t", kind="rsa", place=0)
def test_any_message(headers: list[tuple[str, str]], body: str, kind: str, place: int) -> None:
    fields = [f"{name}:{value}\r\n" for name, value in headers]
    fields.insert(place, "From: Dashboard <hello@example.org>\r\n")
    message = ("".join(fields) + "\r\n" + body).encode("ascii")
    signed = signer(kind).sign(message, AT)

    assert accepted(signed, signer(kind))
    assert not accepted(b"From: evil@example.com\r\n" + signed, signer(kind))
    assert not accepted(signed + b"x\r\n", signer(kind))


def test_the_record_is_the_one_of_rfc_8463() -> None:
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    by = DkimSigner.from_pem(
        pem(Ed25519PrivateKey.from_private_bytes(seed)), "football.example.com", "brisbane"
    )

    assert by.txt_name == "brisbane._domainkey.football.example.com"
    assert by.txt_record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_the_record_of_an_rsa_key_holds_its_public_half() -> None:
    record = signer("rsa").txt_record
    start, _, text = record.partition("; p=")

    assert start == "v=DKIM1; k=rsa"
    assert base64.b64decode(text, validate=True) == private_key("rsa").public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_both_forms_of_rsa_keys_are_read(form: serialization.PrivateFormat) -> None:
    made = DkimSigner.from_pem(b"\n" + pem(private_key("rsa"), form) + b"\n", "example.org", "s1")

    assert made.sign(MESSAGE, AT) == signer("rsa").sign(MESSAGE, AT)


def test_nothing_of_the_key_is_shown() -> None:
    assert "PRIVATE" not in repr(signer("rsa")).upper()
    assert "example.org" in repr(signer("rsa"))


PUBLIC = (
    private_key("rsa")
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
BAD_KEYS = {
    "empty": (b"", "not a private key in PEM; make one with: openssl"),
    "text": (b"secret words", "not a private key in PEM; make one with: openssl"),
    "cut off": (pem(private_key("rsa"))[:400], "not a private key in PEM; make one with: openssl"),
    "damaged": (
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        "not a private key in PEM; make one with: openssl",
    ),
    "not ASCII": (b"\xff\xfe\0", "not a private key in PEM; make one with: openssl"),
    "public": (PUBLIC, "not a private key in PEM; make one with: openssl"),
    "encrypted": (
        pem(private_key("rsa"), passphrase=b"secret"),
        "encrypted; remove the passphrase with: openssl pkey",
    ),
    "encrypted in the old way": (
        pem(private_key("rsa"), serialization.PrivateFormat.TraditionalOpenSSL, b"secret"),
        "encrypted; remove the passphrase with: openssl pkey",
    ),
    "encrypted Ed25519": (
        pem(private_key("ed25519"), passphrase=b"secret"),
        "encrypted; remove the passphrase with: openssl pkey",
    ),
    "EC": (pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519; make one with: openssl"),
    "X25519": (pem(X25519PrivateKey.generate()), "neither RSA nor Ed25519; make one with: openssl"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), "neither RSA nor Ed25519; make one with: openssl"),
    "DSA": (pem(dsa.generate_private_key(1024)), "neither RSA nor Ed25519; make one with: openssl"),
    "RSA-1024": (pem(rsa.generate_private_key(65537, 1024)), "RSA with 1024 bits"),
    "RSA-2047": (pem(rsa.generate_private_key(65537, 2047)), "RSA with 2047 bits"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_unusable_keys(text: bytes, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DkimSigner.from_pem(text, "example.org", "s1")

    (problem,) = caught.value.problems
    assert problem.startswith("DKIM_KEY: ")
    assert sentence in problem
    assert "; " in problem
    assert "secret" not in problem
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "domain",
    [
        *("", " ", "localhost", "example.org.", ".example.org", "example..org", "-a.org", "a-.org"),
        *("exa_mple.org", "bücher.example", "example.org\r\nBcc: x", "example.org\n", "a;b.org"),
        *("192.0.2.1", f"{'a' * 64}.org", "@example.org", "hello@example.org", "https://example.org"),
    ],
)
def test_unusable_domains(domain: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DkimSigner.from_pem(pem(private_key("ed25519")), domain, "s1")

    (problem,) = caught.value.problems
    assert problem.startswith(f"DKIM_DOMAIN: {domain!r} ")
    assert "; write " in problem


@pytest.mark.parametrize(
    "selector", ["", ".", "a.", ".a", "a..b", "s 1", "s_1", "s1;", "s1\n", "-s", "s-", "é", "a" * 64]
)
def test_unusable_selectors(selector: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DkimSigner.from_pem(pem(private_key("ed25519")), "example.org", selector)

    (problem,) = caught.value.problems
    assert problem.startswith(f"DKIM_SELECTOR: {selector!r} ")
    assert "; write " in problem


def test_names_too_long_for_dns() -> None:
    longest = ".".join(["a" * 60] * 3 + ["a" * 57])  # 240 characters: with s._domainkey. the 253 of DNS

    with pytest.raises(ConfigurationError, match=r"DKIM_SELECTOR: .* too long for DNS; choose a shorter"):
        DkimSigner.from_pem(pem(private_key("ed25519")), longest, "s1")
    assert len(DkimSigner.from_pem(pem(private_key("ed25519")), longest, "s").txt_name) == 253


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DkimSigner.from_pem(b"", "localhost", "s_1")

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "DKIM_KEY",
        "DKIM_DOMAIN",
        "DKIM_SELECTOR",
    ]


def test_messages_that_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        signer("ed25519").sign(MESSAGE, AT.replace(tzinfo=None))
    with pytest.raises(ValueError, match="without From"):
        signer("ed25519").sign(b"To: ada@example.org\r\n\r\nFrom: the body\r\n", AT)


@pytest.mark.parametrize("from_domain", ["example.org", "EXAMPLE.org", "mail.example.org", "a.b.example.org"])
def test_aligned(from_domain: str) -> None:
    assert signer("ed25519").alignment_problem(from_domain) is None
    assert signer("ed25519", "Example.Org").alignment_problem(from_domain) is None


@pytest.mark.parametrize("from_domain", ["example.com", "notexample.org", "org", "example.org.evil.com", ""])
def test_not_aligned(from_domain: str) -> None:
    problem = signer("ed25519").alignment_problem(from_domain)

    assert problem is not None
    assert problem.startswith(f"DKIM_DOMAIN: example.org is neither {from_domain}, ")
    assert "; sign with the domain of MAIL_FROM" in problem


def test_the_child_of_the_from_domain_is_reported() -> None:
    assert signer("ed25519", "mail.example.org").alignment_problem("example.org")


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_signs_what_it_composes_where_a_key_is_configured(kind: str) -> None:
    settings = Settings.load(
        {
            "MAIL_FROM": "Dashboard <hello@example.org>",
            "DKIM_SELECTOR": "s1",
            "DKIM_KEY": pem(private_key(kind)).decode(),
        }
    )

    signed = composer_of(settings, kinds_of(all_jobs()).values()).compose(letter())

    assert signed.startswith(b"DKIM-Signature: ")
    assert accepted(signed, signer(kind))


def test_a_key_without_a_selector_and_an_unusable_key_stop_the_start() -> None:
    with pytest.raises(ConfigurationError, match="DKIM_KEY and DKIM_SELECTOR go together"):
        Settings.load({"DKIM_KEY": "x"})
    with pytest.raises(ConfigurationError, match="DKIM_KEY"):
        composer_of(Settings.load({"DKIM_KEY": "x", "DKIM_SELECTOR": "s1"}), ())
