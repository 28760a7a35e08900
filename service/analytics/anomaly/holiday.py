"""Public holidays in a series: what is expected then, learned from earlier ones."""

from dataclasses import dataclass

_LARGEST_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Holiday:
    """A public holiday of a ``share`` (0–1) of the users, in ``countries``: ``DE, AT``."""

    share: float
    countries: str


@dataclass(frozen=True, slots=True)
class HolidayRatio:
    """How a holiday compares with an ordinary day, on the scale of the model, by least squares.

    ``points``: earlier ones of holidays; ``product`` and ``square``: sums over them.
    """

    points: int = 0
    product: float = 0.0
    square: float = 0.0

    def expected(self, ordinary: float, sunday: float, share: float, per_day: int) -> float:
        """What is expected of a point of which ``share`` has a holiday: of these, a Sunday's value, and with
        each earlier holiday (``per_day`` points) more of what those were."""
        whole = sunday
        if self.square:
            trust = self.points / (self.points + per_day)
            ratio = min(max(self.product / self.square, 0.0), _LARGEST_RATIO)
            whole += trust * (ratio * ordinary - sunday)
        return ordinary + share * (whole - ordinary)

    def learned(self, value: float, ordinary: float, share: float) -> "HolidayRatio":
        """With one more point: value = ordinary · (1 - share + share · ratio)."""
        part = share * ordinary
        return HolidayRatio(
            self.points + 1,
            float(f"{self.product + part * (value - ordinary + part):.9g}"),
            float(f"{self.square + part * part:.9g}"),
        )
