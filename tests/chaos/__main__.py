"""``make chaos``: plays every scenario and some seeds, and prints the table of docs/reliability.md.

``python -m tests.chaos [--seeds N] [words of a scenario's name …]``. The exit code is 1 where one fails that
was not expected to.
"""

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from service import log
from tests.chaos.checks import Outcome
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import SCENARIOS, drawn
from tests.chaos.servers import Servers, SmallDisk, servers

_HEAD = (
    "| fault | count | lost | doubled | held | red after | green after | |\n|---|---|---|---|---|---|---|---|"
)


def row(scenario: Scenario, outcome: Outcome) -> str:
    """A line of the table."""
    back = f", half of {outcome.rate:g} slots/s back within {outcome.back} s" if outcome.back else ""
    last = "; ".join(outcome.problems) if outcome.wrong else f"as it must{back}"
    if outcome.wrong and scenario.expected:
        last = f"known ({scenario.expected}): {last}"
    numbers = (outcome.faults, outcome.lost, outcome.doubled, outcome.held)
    cells = [outcome.name, *map(str, numbers), _seconds(outcome.red), _seconds(outcome.green), last]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:g} s"


def chosen(words: Sequence[str], seeds: int, exactly: str) -> list[Scenario]:
    """The one with exactly this name, or those whose names hold one of the words; all without any."""
    everything = [*SCENARIOS, *(drawn(seed, faults=8) for seed in range(1, seeds + 1))]
    if exactly:
        return [one for one in everything if one.name == exactly]
    return [one for one in everything if not words or any(word in one.name for word in words)]


def _played(servers: Servers, scenario: Scenario, seed: int) -> tuple[Outcome, bool]:
    """What came of it, and whether it could be played to its end."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            return asyncio.run(play(servers, scenario, seed, Path(folder))), True
        except Exception as error:  # noqa: BLE001 — the others are played nevertheless
            traceback.print_exc()
            return Outcome(scenario.name, problems=[f"{type(error).__name__}: {error}"]), False


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 if something went wrong, 2 if a scenario could not be played to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--exactly", default="")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args(arguments)
    log.configure("error", json=True)
    failed = unplayed = 0
    with servers() as started:
        print(_HEAD, flush=True)
        for seed, scenario in enumerate(chosen(options.words, options.seeds, options.exactly), 1):
            if scenario.load.small_disk and not SmallDisk.possible():
                print(f"| {scenario.name} | | | | | | | left out: it needs the right to mount |", flush=True)
                continue
            outcome, played = _played(started, scenario, seed)
            unplayed += not played
            failed += bool(outcome.wrong) and not scenario.expected
            print(row(scenario, outcome), flush=True)
    return 2 if unplayed else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
