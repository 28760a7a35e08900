"""Envelope senders: a bounce names its delivery, and nobody else can."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mail_address import valid_address
from service.messages.mail.verp import (
    delivery_of,
    envelope_sender,
    unsubscribe_address,
    unsubscribe_token_in,
)

BASE = "bounce@example.org"
SECRET = b"a secret of this service"
IDS = st.integers(min_value=0, max_value=2**63 - 1)


def test_it_looks_as_documented() -> None:
    address = envelope_sender(BASE, 46655, SECRET)
    assert re.fullmatch(r"bounce\+zzz-[a-z2-7]{8}@example\.org", address)
    assert valid_address(address)


def test_the_same_delivery_has_the_same_address_for_ever() -> None:
    assert envelope_sender(BASE, 1, SECRET) == "bounce+1-zg7c2ls6@example.org"


@given(IDS)
def test_an_address_names_its_delivery_in_any_case(delivery_id: int) -> None:
    address = envelope_sender(BASE, delivery_id, SECRET)
    assert delivery_of(address, BASE, SECRET) == delivery_id
    assert delivery_of(address.upper(), BASE, SECRET) == delivery_id
    assert delivery_of(address, "Bounce@Example.ORG", SECRET) == delivery_id


@given(IDS, st.integers(min_value=0, max_value=7), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_signature_names_nothing(delivery_id: int, at: int, letter: str) -> None:
    local, _, domain = envelope_sender(BASE, delivery_id, SECRET).partition("@")
    head, _, signature = local.rpartition("-")
    forged = signature[:at] + letter + signature[at + 1 :]
    expected = delivery_id if forged == signature else None
    assert delivery_of(f"{head}-{forged}@{domain}", BASE, SECRET) == expected


@given(IDS, IDS)
def test_a_signature_fits_one_delivery(mine: int, other: int) -> None:
    signature = envelope_sender(BASE, mine, SECRET).partition("@")[0].rpartition("-")[2]
    head = envelope_sender(BASE, other, SECRET).rpartition("-")[0]
    named = delivery_of(f"{head}-{signature}@example.org", BASE, SECRET)
    assert named == (mine if mine == other else None)


@pytest.mark.parametrize(
    ("base", "secret"),
    [
        ("other@example.org", SECRET),
        ("bounce@example.net", SECRET),
        ("bounce+1@example.org", SECRET),
        ("", SECRET),
        (BASE, b"another secret"),
        (BASE, b""),
    ],
)
def test_another_base_or_secret_names_nothing(base: str, secret: bytes) -> None:
    address = envelope_sender(BASE, 7, SECRET)
    assert delivery_of(address, base, secret) is None


def test_the_signature_belongs_to_its_base() -> None:
    signed = envelope_sender("bounce@example.net", 7, SECRET).partition("@")[0]
    assert delivery_of(f"{signed}@example.org", BASE, SECRET) is None


@given(st.text(st.characters(), max_size=80))
def test_any_text_is_foreign(text: str) -> None:
    assert delivery_of(text, BASE, SECRET) is None
    assert delivery_of(f"bounce+{text}@example.org", BASE, SECRET) is None


def test_one_delivery_has_one_address() -> None:
    address = envelope_sender(BASE, 7, SECRET)
    assert delivery_of(address.replace("@", "@\ud800"), BASE, SECRET) is None
    for variant in (address.replace("+", "+0"), f" {address}", f"{address}\n", f"<{address}>", address + "."):
        assert delivery_of(variant, BASE, SECRET) is None


@given(st.integers(min_value=1, max_value=80), IDS)
def test_no_local_part_exceeds_64_octets(length: int, delivery_id: int) -> None:
    base = "b" * length + "@example.org"
    try:
        address = envelope_sender(base, delivery_id, SECRET)
    except ValueError:
        assert length > 64 - len("+") - 13 - len("-") - 8
    else:
        assert len(address.partition("@")[0]) <= 64
        assert delivery_of(address, base, SECRET) == delivery_id


@pytest.mark.parametrize(
    ("base", "delivery_id", "secret"),
    [
        ("bounce", 1, SECRET),
        ("@example.org", 1, SECRET),
        ("bounce@", 1, SECRET),
        ("bøunce@example.org", 1, SECRET),
        (BASE, -1, SECRET),
        (BASE, 36**13, SECRET),
        (BASE, 1, b""),
    ],
)
def test_what_cannot_be_signed_is_refused(base: str, delivery_id: int, secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"address|id|secret"):
        envelope_sender(base, delivery_id, secret)


@pytest.mark.parametrize("token", ["abcdefghijklmnopqrstuvwxyz"[:26], "Zx8QmN3vR5tY7uI9oP1aSdFgHj-_wEr0"])
def test_an_unsubscribe_address_holds_its_token(token: str) -> None:
    address = unsubscribe_address(BASE, token)

    assert address == f"bounce+u-{token}@example.org"
    assert valid_address(address)
    for text in (
        address,
        f"<{address}>",
        f"Dashboard <{address}>, x@example.net",
        f'"{address}" <{address}>',
    ):
        assert unsubscribe_token_in(text, BASE) == token
        assert unsubscribe_token_in(text.upper(), "Bounce@Example.org") == token.upper()
    assert delivery_of(address, BASE, SECRET) is None


@pytest.mark.parametrize(
    "text",
    [
        "", BASE, envelope_sender(BASE, 7, SECRET), "bounce+u-short@example.org",
        f"bounce+u-{'a' * 26}@example.org.evil.example", f"bounce+u-{'a' * 26}@example.organic",
        f"x.bounce+u-{'a' * 26}@example.org", f"bounce+u-{'a' * 26}@mail.example.org",
        f"bounce+u-{'a' * 26}\n@example.org", f"bounce+u-{'é' * 26}@example.org",
    ],
)  # fmt: skip
def test_other_addresses_unsubscribe_nobody(text: str) -> None:
    assert unsubscribe_token_in(text, BASE) is None
