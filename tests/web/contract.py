"""What openapi.yaml promises about one answer."""

from functools import cache
from typing import Any

import yaml
from aiohttp import ClientResponse
from jsonschema import Draft202012Validator

from service.web.probes import CONTRACT


@cache
def contract() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(CONTRACT.read_text("utf-8"), yaml.CSafeLoader)
    return found


def followed(node: dict[str, Any]) -> dict[str, Any]:
    """What a ``$ref`` stands for."""
    while "$ref" in node:
        here: Any = contract()
        for part in node["$ref"].removeprefix("#/").split("/"):
            here = here[part]
        node = here
    return node


async def promised(answer: ClientResponse, method: str, pattern: str) -> Any:
    """The JSON body, after it was held against the contract; its example is held against it too."""
    described = followed(contract()["paths"][pattern][method.lower()]["responses"][str(answer.status)])
    content = described["content"]["application/json"]
    schema = {**content["schema"], "components": contract()["components"]}
    body = await answer.json()
    for told in [body, *([content["example"]] if "example" in content else [])]:
        errors = [f"{list(e.path)}: {e.message}" for e in Draft202012Validator(schema).iter_errors(told)]
        assert not errors, (method, pattern, errors)
    return body
