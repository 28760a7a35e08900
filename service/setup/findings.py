"""What ``check-config`` found out, in sentences."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """``facts``: what is there; ``warnings``: what should be looked at; ``problems``: what will not work."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
