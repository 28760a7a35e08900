"""The service keeps going under faults, or says so: each scenario, and a seed of drawn faults."""

from pathlib import Path

import pytest

from tests.chaos.checks import Outcome
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import SCENARIOS, drawn
from tests.chaos.servers import Servers, SmallDisk


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


async def test_a_few_drawn_faults(chaos_servers: Servers, tmp_path: Path) -> None:
    outcome = await _play(chaos_servers, drawn(1, faults=4), tmp_path)

    assert outcome.wrong == [], outcome
