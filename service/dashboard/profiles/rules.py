"""Rules of a mapping file: how the stored value of a field becomes ours. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from service.dashboard.profiles.values import flag, number


class _Unlisted:
    """No parser accepts it, so that the field counts as malformed."""


UNLISTED: Final = _Unlisted()
"""In place of a stored value that ``Rule.values`` does not list."""


@dataclass(frozen=True)
class Rule:
    """How the stored value of a field becomes ours.

    ``constant``: the value of every record, whatever is stored. ``values``: stored value as text (``true``,
    ``2``) → ours. ``other``: for stored values that ``values`` does not list; None: these are malformed.
    ``missing``: where nothing is stored. ``negative``: a stored true means false. ``factor``: numbers are
    multiplied by it. ``derive``: two other fields and an operator (``ended - focus``), computed where nothing
    is stored.
    """

    constant: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)
    other: Any = None
    missing: Any = None
    negative: bool = False
    factor: float | None = None
    derive: str = ""

    @property
    def always_filled(self) -> bool:
        """Whether every record has a value, whatever is stored."""
        return self.constant is not None or self.missing is not None

    @property
    def operands(self) -> tuple[str, ...]:
        """The fields from which the value is derived."""
        return tuple(self.derive.split(" ")[::2]) if self.derive else ()

    def apply(self, stored: Any) -> Any:
        """Our value for a stored one."""
        if self.constant is not None:
            return self.constant
        if stored is None:
            return self.missing
        if self.values or self.other is not None:
            return self.values.get(_as_text(stored), UNLISTED if self.other is None else self.other)
        if self.negative:
            allowed = flag(stored)
            return stored if allowed is None else not allowed
        if self.factor is not None and (parsed := number(stored)) is not None:
            return parsed * self.factor
        return stored


def _as_text(stored: Any) -> str:
    """A stored value as a key of a mapping file: JavaScript stores the integer 2 as 2.0."""
    if isinstance(stored, bool):
        return "true" if stored else "false"
    if (
        isinstance(stored, (float, Decimal))
        and (parsed := number(stored)) is not None
        and parsed.is_integer()
    ):
        return str(int(parsed))
    return str(stored)
