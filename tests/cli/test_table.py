"""Whatever the API can do has exactly one command, with a word or an option for everything it takes."""

import shlex
from collections import Counter
from typing import Any

import pytest

from service.cli import local
from service.cli.arguments import Location
from service.cli.commands import COMMANDS, Command
from service.cli.parser import build_parser
from service.cli.phrases import EXAMPLES, LOCAL, LOCAL_ONLY, SHARED
from tests.web.contract import contract, followed

_METHODS = {"get", "post", "put", "patch", "delete"}
_PAGES = {"text/html", "text/css", "text/javascript"}
"""What browsers show: no answers."""


def _is_page(operation: dict[str, Any]) -> bool:
    shown = set(operation["responses"].get("200", {}).get("content", {}))
    return bool(shown) and shown <= _PAGES


def _operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Every operation under /api by its operationId: method, path, description with the path's parameters."""
    return {
        operation["operationId"]: (
            method.upper(),
            path,
            operation | {"parameters": item.get("parameters", []) + operation.get("parameters", [])},
        )
        for path, item in contract()["paths"].items()
        if path.startswith("/api/")
        for method, operation in item.items()
        if method in _METHODS and not _is_page(operation)
    }


def _taken(operation: dict[str, Any]) -> set[tuple[str, str]]:
    """What the document says that an operation takes: where, and under which name."""
    given = [followed(one) for one in operation["parameters"]]
    taken = {(one["in"], one["name"]) for one in given if one["in"] in {"path", "query"}}
    content = followed(operation.get("requestBody", {})).get("content", {})
    if "application/json" in content:
        taken |= {("body", name) for name in followed(content["application/json"]["schema"])["properties"]}
    elif content:
        taken.add(("raw", "file"))
    return taken


def test_every_operation_has_exactly_one_command() -> None:
    counted = Counter(command.operation for command in COMMANDS)
    without = sorted(set(_operations()) - set(counted))
    assert not without, f"operations without a command: {', '.join(without)}"
    assert sorted(set(counted) - set(_operations())) == []
    assert [name for name, n in counted.items() if n > 1] == []
    assert len({command.words for command in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_a_command_takes_what_its_operation_takes(command: Command) -> None:
    method, path, operation = _operations()[command.operation]
    assert (command.method, command.path) == (method, path)
    has = {(str(one.location), one.field) for one in command.arguments if one.location is not Location.CLIENT}
    assert has == _taken(operation)
    content = followed(operation.get("requestBody", {})).get("content", {command.content: None})
    assert command.content in content
    paged = {"before", "cursor"} & {field for where, field in has if where == "query"}
    assert {command.pages} - {""} == paged
    headers = {one["name"] for one in map(followed, operation["parameters"]) if one["in"] == "header"}
    assert command.mutates == ("Idempotency-Key" in headers)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_a_command_explains_itself_with_an_example_that_it_takes(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*command.words.split(), "--help"])
    assert ended.value.code == 0
    helped = capsys.readouterr().out
    assert f"--url https://jobs.example.org {command.example}" in helped
    assert build_parser().parse_args(shlex.split(command.example)).command is command
    for argument in command.arguments:
        assert argument.flag in helped or argument.flag.upper() in helped


def test_what_works_on_this_machine_has_an_example_that_it_takes() -> None:
    assert set(EXAMPLES) == set(LOCAL)
    for name, example in EXAMPLES.items():
        assert local._parser().parse_args(example.split()).command == name


def test_what_this_machine_can_do_too_is_told() -> None:
    words = {command.words for command in COMMANDS}
    assert words >= SHARED
    assert not LOCAL_ONLY & words
