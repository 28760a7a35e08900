"""The detector on public labelled series: ``python -m benchmarks.labelled_series FOLDER``.

FOLDER: a checkout of the Numenta Anomaly Benchmark (its ``data`` and ``labels``), whose series are taken by
the hour: tweets are added up, everything else is averaged. Its standard score (Lavin and Ahmad, 2015): the
earliest detection in a window counts by how early it comes, each one outside costs 0.11, each window without
one 1; 0 is the score of a detector that says nothing, 100 that of a perfect one. As there, the threshold
is the one that is best over all series; it is printed beside the score at the detector's own. Nothing is
learned from labels otherwise.
"""

import csv
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from service.analytics.anomaly.detector import update
from service.analytics.anomaly.series_state import start
from service.analytics.anomaly.verdict import SHIFT_SCORE, Cadence, JudgedPoint, Measure

_PROBATION = 0.15
_LONGEST_PROBATION = 750
_FALSE_ALARM = 0.11
_OWN_THRESHOLD = 3.5
_COOL_DOWN = 24


@dataclass(frozen=True)
class LabelledSeries:
    """``times`` of its points, ``scores`` that the detector gives them, ``windows`` as positions."""

    name: str
    times: Sequence[datetime]
    scores: Sequence[float]
    windows: Sequence[tuple[int, int]]

    @property
    def kind(self) -> str:
        """The folder it lies in."""
        return self.name.partition("/")[0]


def hourly(path: Path) -> list[tuple[datetime, float]]:
    """The series by the hour, oldest first."""
    values: defaultdict[datetime, list[float]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            values[at.replace(minute=0, second=0, microsecond=0)].append(float(row["value"]))
    take = sum if _is_count(path) else fmean
    return [(at, float(take(values[at]))) for at in sorted(values)]


def _is_count(path: Path) -> bool:
    return path.name.startswith("Twitter_volume")


def judged(folder: Path, name: str, windows: Sequence[Sequence[str]]) -> LabelledSeries:
    """The scores of the detector, point by point."""
    path = folder / "data" / name
    points = hourly(path)
    state = start(Cadence.HOUR, Measure.COUNT if _is_count(path) else Measure.PLAIN)
    scores = []
    for at, value in points:
        state, verdict = update(state, at, value)
        scores.append(_score(verdict))
    times = [at for at, _ in points]
    return LabelledSeries(name, times, scores, [span for one in windows if (span := _span(times, one))])


def _score(verdict: JudgedPoint | None) -> float:
    if verdict is None:
        return 0.0
    begins = verdict.shift is not None and verdict.shift.begins
    return max(verdict.score, SHIFT_SCORE) if begins else verdict.score


def _span(times: Sequence[datetime], window: Sequence[str]) -> tuple[int, int] | None:
    begin, end = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in window)
    begin = begin.replace(minute=0, second=0, microsecond=0)
    inside = [n for n, at in enumerate(times) if begin <= at <= end]
    return (inside[0], inside[-1]) if inside else None


def detections(scores: Sequence[float], threshold: float) -> list[int]:
    """Points that reach the threshold, and are higher than all that did within a day."""
    found: list[int] = []
    for n, score in enumerate(scores):
        if score >= threshold and all(score > scores[one] for one in found if n - one < _COOL_DOWN):
            found.append(n)
    return found


def raw_score(series: LabelledSeries, found: Sequence[int]) -> tuple[float, int]:
    """The sum of rewards and costs, and how many windows count."""
    first = min(int(_PROBATION * len(series.times)), _LONGEST_PROBATION)
    windows = [window for window in series.windows if window[1] >= first]
    total, met = 0.0, set()
    for n in found:
        if n < first:
            continue
        window = next((one for one in windows if one[0] <= n <= one[1]), None)
        if window is None:
            total -= _FALSE_ALARM * _lateness(n, windows)
        elif window not in met:
            met.add(window)
            total += _sigmoid(-(window[1] - n + 1) / (window[1] - window[0] + 1)) / _sigmoid(-1.0)
    return total - (len(windows) - len(met)), len(windows)


def _lateness(n: int, windows: Sequence[tuple[int, int]]) -> float:
    """From 0 just behind a window to 1 far behind it, or before all of them."""
    before = [window for window in windows if window[1] < n]
    if not before:
        return 1.0
    begin, end = before[-1]
    return -min(0.0, _sigmoid((n - end) / max(1, end - begin)))


def _sigmoid(y: float) -> float:
    return 2 / (1 + math.exp(5 * y)) - 1 if y <= 3 else -1.0


def score(series: Sequence[LabelledSeries], threshold: float) -> float:
    """From 0 (says nothing) to 100 (perfect)."""
    pairs = [raw_score(one, detections(one.scores, threshold)) for one in series]
    windows = sum(count for _, count in pairs)
    return 100 * (sum(raw for raw, _ in pairs) + windows) / (2 * windows)


def main() -> None:
    """Print the scores."""
    folder = Path(sys.argv[1])
    labels: Mapping[str, Sequence[Sequence[str]]] = json.loads(
        (folder / "labels" / "combined_windows.json").read_text("utf-8")
    )
    series = [judged(folder, name, windows) for name, windows in labels.items()]
    best = max((n / 10 for n in range(15, 121)), key=lambda one: score(series, one))
    print(f"{len(series)} series      {'best: ' + str(best):>12} {'own: ' + str(_OWN_THRESHOLD):>12}")
    kinds = sorted({one.kind for one in series if one.windows})
    for kind in ["all", *kinds]:
        some = [one for one in series if kind in ("all", one.kind)]
        print(f"{kind:<24}{score(some, best):>8.1f} {score(some, _OWN_THRESHOLD):>12.1f}")


if __name__ == "__main__":
    main()
