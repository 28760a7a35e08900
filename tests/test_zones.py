"""Which zone a name means, and its clock."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from service import zones
from tests.zone_cases import ACCEPTED, CASES, INSTANTS, REFUSED, Case
from tests.zone_data import forget


def test_the_table_is_read_whole() -> None:
    assert len(CASES) == 25
    assert len(REFUSED) == 6
    assert [f"{at:%Y-%m-%d}" for at in INSTANTS] == ["2026-01-15", "2026-07-15", "2026-11-15"]


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_name_means_its_zone_and_its_clock(case: Case) -> None:
    name = zones.canonical_name(case.name)

    assert name is not None
    assert zones.current_name(name) in case.accepted
    clocks = (zones.zone_of(case.name), zones.zone_of(name), zones.zone_of(zones.current_name(name)))
    assert {tuple(at.astimezone(clock).utcoffset() for at in INSTANTS) for clock in clocks} == {case.offsets}


@pytest.mark.parametrize(
    "name",
    [case.name for case in REFUSED]
    + [None, 7, b"UTC", "  ", "Posix/Europe/Berlin", "../UTC", "CET+1", "EST5", "UTC+2", "+02:00", "Europe",
       "Europe/Berlin\0", "Europe /Berlin", "Asia/Kol\N{KELVIN SIGN}ata"],
)  # fmt: skip
def test_what_is_no_name_is_refused_and_read_as_utc(name: object) -> None:
    assert zones.canonical_name(name) is None
    assert str(zones.zone_of(str(name))) == "UTC"


def test_every_name_can_be_used_and_is_its_own_spelling() -> None:
    for name in zones.names():
        assert zones.canonical_name(f"\t{name.upper()} ") == name
        assert zones.current_name(zones.current_name(name)) == zones.current_name(name)
        assert str(zones.zone_of(name)) == name
    assert all(zones.current_name(place) == place for place in zones.places())


def test_a_run_that_was_planned_by_a_former_name_is_for_the_same_people() -> None:
    planned = ("Asia/Calcutta@7", "Europe/Oslo", "localtime")

    assert zones.current_groups(planned) == ("Asia/Calcutta@7", "Asia/Kolkata@7", "Europe/Oslo", "localtime")
    assert set(zones.equal_groups("Asia/Kolkata@7")) == {"Asia/Kolkata@7", "Asia/Calcutta@7"}
    assert "Europe/Oslo" not in zones.equal_groups("Europe/Berlin")
    assert zones.equal_groups("localtime@3") == ["localtime@3"]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The zone data is looked for again, now and after the test."""
    forget()
    yield
    forget()


@pytest.mark.parametrize(("theirs", "newer"), [("2019a", False), ("2199a", True)])
def test_the_newer_data_is_used(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, theirs: str, newer: bool
) -> None:
    (tmp_path / "tzdata.zi").write_text(
        f"# version {theirs}\nZ Europe/Berlin 1 - CET\nL Europe/Berlin Old/Name\n"
    )
    (tmp_path / "zone.tab").write_text("#\nDE\t+5230+01322\tEurope/Berlin\tmost of Germany\n")
    monkeypatch.setattr(zones, "TZPATH", (str(tmp_path / "nowhere"), str(tmp_path)))

    assert (zones.version() == theirs) is newer
    assert (zones.canonical_name("old/name") == "Old/Name") is newer
    summer = datetime.fromisoformat(
        "2026-07-15T12:00Z"
    )  # this folder has no file for it: the package's is read
    assert str(summer.astimezone(zones.zone_of("Europe/Berlin")).utcoffset()) == "2:00:00"
