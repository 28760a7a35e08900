"""What ``reminder_run`` prints: tables for people, and a line of JSON for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.service_run import Case, medians
from benchmarks.stages import STAGES

RAW = "raw pool, ready bytes"
_COSTS = (
    ("plan_s", "choosing and planning, s", 2),
    ("plan_lag_max_ms", "longest event-loop lag meanwhile, ms", 0),
    ("loop_us", "event loop, µs a mail", 0),
    ("other_threads_us", "other threads, µs a mail", 0),
    ("postgres_us", "PostgreSQL, µs a mail", 0),
    ("wal_bytes", "WAL, bytes a mail", 0),
    ("fsyncs", "fsyncs a mail", 3),
    ("group", "dots in a statement", 1),
    ("rss_after_import_mb", "memory after import, MB", 0),
    ("rss_peak_mb", "memory at its peak, MB", 0),
    ("loop_lag_p99_ms", "event-loop lag p99, ms", 1),
    ("probe_p99_ms", "probe p99, ms", 1),
)
_WIDTH = 42


@dataclass
class Figures:
    """All figures of one size. ``runs``: by contender, of each round; ``skipped``: why, by name."""

    people: int
    mails: int
    loads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    runs: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    load_averages: list[float] = field(default_factory=list)

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        """What one run of a contender has shown."""
        self.runs.setdefault(name, []).append(figures)
        self.load_averages.append(os.getloadavg()[0])

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        """Of each contender."""
        return {name: medians(runs) for name, runs in self.runs.items()}


def as_text(figures: Figures, cases: Sequence[Case]) -> str:
    """The tables."""
    found = figures.medians
    told = [case for case in cases if case.name in found]
    parts = [_machine(figures), _rates(found, cases[0].name), _costs(found, told)]
    parts += [_stages(found[case.name], found.get(cases[0].name)) for case in told if case.stages]
    parts += [f"{name}: left out, {why}" for name, why in figures.skipped.items()]
    return "\n\n".join(parts)


def as_json(figures: Figures) -> str:
    """One line: medians of each contender, and the machine's state."""
    whole: dict[str, Any] = {
        "benchmark": "reminder_run",
        "people": figures.people,
        "mails": figures.mails,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_averages": [round(load, 2) for load in figures.load_averages],
        "first_load": {name: _rounded(load) for name, load in figures.loads.items()},
        "rounds": max(map(len, figures.runs.values()), default=0),
        "medians": {name: _rounded(values) for name, values in figures.medians.items()},
        "skipped": figures.skipped,
    }
    return json.dumps(whole)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in values.items()}


def _machine(figures: Figures) -> str:
    busy = figures.load_averages or [0.0]
    loads = [
        f"first load from {name}: {load['first_load_s']:.1f} s,"
        f" probe p99 {load['first_load_probe_p99_ms']:.0f} ms"
        for name, load in figures.loads.items()
    ]
    machine = f"{os.cpu_count()} cores, load average {min(busy):.1f} to {max(busy):.1f}"
    return "\n".join([f"{figures.people:,} people, {figures.mails:,} mails; {machine}", *loads])


def _rates(found: Mapping[str, Mapping[str, float]], ours: str) -> str:
    heads = ("steady/s", "end to end/s", "CPU µs a mail", "ours to it: steady", "end to end", "by CPU")
    lines = [" " * _WIDTH + "".join(f"  {head}" for head in heads)]
    for name, values in found.items():
        figures = [values.get(key) for key in ("steady_per_s", "end_to_end_per_s", "cpu_us")]
        cells = ["" if figure is None else f"{figure:,.0f}" for figure in figures]
        if ours in found and name != ours:
            cells += _ratios(found[ours], values)
        padded = "".join(f"{cell:>{len(head) + 2}}" for cell, head in zip(cells, heads, strict=False))
        lines.append(f"{name:{_WIDTH}}{padded}")
    return "\n".join(lines)


def _ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[str]:
    """More than 1: ours sends more, or needs less."""
    found = [ours[key] / theirs[key] for key in ("steady_per_s", "end_to_end_per_s") if key in theirs]
    if "cpu_us" in theirs:
        found.append(theirs["cpu_us"] / ours["cpu_us"])
    return [f"{ratio:.2f}" for ratio in found]


def _costs(found: Mapping[str, Mapping[str, float]], cases: Sequence[Case]) -> str:
    lines = [f"[{n}] {case.name}" for n, case in enumerate(cases, 1)]
    lines.append(" " * _WIDTH + "".join(f"{f'[{n}]':>10}" for n in range(1, len(cases) + 1)))
    for key, label, digits in _COSTS:
        values = "".join(f"{found[case.name][key]:10,.{digits}f}" for case in cases)
        lines.append(f"{label:{_WIDTH}}{values}")
    return "\n".join(lines)


def _stages(values: Mapping[str, float], unmeasured: Mapping[str, float] | None) -> str:
    lines = ["µs of the event loop's thread a mail, by stage"]
    stages = (*STAGES, "rest of the loop")
    lines += [f"  {stage:{_WIDTH - 2}}{values[f'{stage}_us']:10,.0f}" for stage in stages]
    if unmeasured:
        more = values["loop_us"] - unmeasured["loop_us"]
        lines.append(f"  {'more than without measuring':{_WIDTH - 2}}{more:10,.0f}")
    return "\n".join(lines)
