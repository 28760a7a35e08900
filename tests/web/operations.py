"""Every operation of openapi.yaml, with a path to ask it by: a new route is asked without being named."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.web.contract import contract

PATHS: dict[str, str] = {
    "id": "1",
    "type": "reminder",
    "name": "goalDeadlines",
    "template": "goal_deadlines",
    "statistic": "daily",
    "period": "2026-03-08",
    "table": "user_day",
    "token": "a-token",
    "provider": "ses",
}
"""A value for each name in a path."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, and what the contract says of it."""

    method: str
    pattern: str
    told: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...] = ()

    @property
    def path(self) -> str:
        """A path that could be meant."""
        return self.filled()

    def filled(self, **values: str) -> str:
        """The path with these values, as they stand; the others could be meant."""
        return re.sub(r"\{(\w+)\}", lambda found: {**PATHS, **values}[found[1]], self.pattern)

    @property
    def acts(self) -> bool:
        """It is there to change something."""
        return self.method != "GET" and self.pattern != "/api/admin/preview"

    @property
    def body(self) -> str | None:
        """The type of its body; None: it takes none."""
        return next(iter(self.told.get("requestBody", {}).get("content", {})), None)

    @property
    def fields(self) -> list[str]:
        """The names in its body."""
        content = self.told.get("requestBody", {}).get("content", {})
        schema = _followed(content[self.body]["schema"]) if self.body else {}
        parts = [_followed(one) for one in (schema, *schema.get("allOf", ()))]
        return [name for part in parts for name in part.get("properties", {})]

    @property
    def statuses(self) -> frozenset[int]:
        """What it may answer."""
        return frozenset(map(int, self.told["responses"]))

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}"


def _followed(node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        here: Any = contract()
        for part in node["$ref"].removeprefix("#/").split("/"):
            here = here[part]
        node = here
    return node


def _operations() -> list[Operation]:
    return [
        Operation(
            method.upper(),
            pattern,
            told,
            tuple(_followed(one) for one in (*item.get("parameters", ()), *told.get("parameters", ()))),
        )
        for pattern, item in contract()["paths"].items()
        for method, told in item.items()
        if method in {"get", "post", "delete"}
    ]


ALL = _operations()
BEARER = [one for one in ALL if "security" not in one.told]
"""For holders of a token."""
CONSOLE = [one for one in ALL if one.told.get("security") == [{"console": []}]]
"""For who has signed in."""
PUBLIC = [one for one in ALL if one.told.get("security") == []]
"""For everybody."""
