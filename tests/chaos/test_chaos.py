"""The service keeps going under faults, or says so: each scenario, and a seed of drawn faults."""

from pathlib import Path

import pytest

from tests.chaos.checks import Outcome
from tests.chaos.guards import LIST
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import SCENARIOS, drawn
from tests.chaos.servers import Servers, SmallDisk
from tests.guards import guards
from tests.releases import ROOT


async def _play(servers: Servers, scenario: Scenario, folder: Path) -> Outcome:
    if scenario.load.small_disk and not SmallDisk.possible():
        pytest.skip("a full disk needs the right to mount")
    return await play(servers, scenario, 1, folder)


@pytest.mark.long(only=True)
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(
            one,
            id=one.name,
            marks=[pytest.mark.xfail(reason=one.expected, strict=False)] if one.expected else [],
        )
        for one in SCENARIOS
        if one.long
    ],
)
async def test_nothing_is_lost_and_nothing_doubled(
    chaos_servers: Servers, scenario: Scenario, tmp_path: Path
) -> None:
    outcome = await _play(chaos_servers, scenario, tmp_path)

    assert outcome.wrong == [], outcome


def test_each_guard_is_there_once_and_has_its_scenario() -> None:
    names = {scenario.name for scenario in SCENARIOS if not scenario.expected}
    for guard in guards(LIST):
        text = (ROOT / guard.file).read_text("utf-8")
        assert guard.without(text) != text
        assert guard.test in names


async def test_a_drawn_fault(chaos_servers: Servers, tmp_path: Path) -> None:
    outcome = await _play(chaos_servers, drawn(1, faults=1), tmp_path)

    assert outcome.wrong == [], outcome
